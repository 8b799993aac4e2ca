// Launchers of cross_resolution_weighting_batch_norm for GPUs. The maths and the mapping are in
// cross_resolution_weighting_batch_norm.cu.
#pragma once

#include "core/platform.h"
#include "params/cross_resolution_weighting_batch_norm.h"

namespace litehrnet {

std::size_t cross_resolution_weighting_batch_norm_workspace_bytes(
    const CrossResolutionWeightingBatchNormParams& params, DType dtype);

// The gates for a launch after these. It has to merge the parts and to store norm2's statistics.
PositionGates cross_resolution_weighting_batch_norm_gates(const CrossResolutionWeightingBatchNormParams& params,
                                                          DType dtype);

// Two launches for hidden and logits; a third one where y is wanted, which also stores norm2's statistics.
cudaError_t launch_cross_resolution_weighting_batch_norm_forward(const CrossResolutionWeightingBatchNormParams& params,
                                                                 DType dtype, cudaStream_t stream);

}  // namespace litehrnet
