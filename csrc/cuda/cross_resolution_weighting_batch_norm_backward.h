// Launchers of cross_resolution_weighting_batch_norm_backward for GPUs. The maths and the mapping are in
// cross_resolution_weighting_batch_norm_backward.cu.
#pragma once

#include "core/platform.h"
#include "params/cross_resolution_weighting_batch_norm_backward.h"

namespace litehrnet {

std::size_t cross_resolution_weighting_batch_norm_backward_workspace_bytes(
    const CrossResolutionWeightingBatchNormBackwardParams& params, DType dtype);

// Four launches.
cudaError_t launch_cross_resolution_weighting_batch_norm_backward(
    const CrossResolutionWeightingBatchNormBackwardParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
