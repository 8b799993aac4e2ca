// Launcher of conditional_channel_weighting_batch_norm for GPUs, and its workspace.
#pragma once

#include "core/platform.h"
#include "params/conditional_channel_weighting_batch_norm.h"

namespace litehrnet {

// Reads sizes, no pointers.
std::size_t conditional_channel_weighting_batch_norm_workspace_bytes(
    const ConditionalChannelWeightingBatchNormParams& params, DType dtype);

// Five launches, whatever the number of branches. Returns the first error.
cudaError_t launch_conditional_channel_weighting_batch_norm_forward(
    const ConditionalChannelWeightingBatchNormParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
