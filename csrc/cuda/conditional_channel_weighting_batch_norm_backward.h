// Launcher of conditional_channel_weighting_batch_norm_backward for GPUs, and its workspace.
#pragma once

#include "core/platform.h"
#include "params/conditional_channel_weighting_batch_norm_backward.h"

namespace litehrnet {

// Reads sizes, no pointers.
std::size_t conditional_channel_weighting_batch_norm_backward_workspace_bytes(
    const ConditionalChannelWeightingBatchNormBackwardParams& params, DType dtype);

// Eight launches, whatever the number of branches. Returns the first error.
cudaError_t launch_conditional_channel_weighting_batch_norm_backward(
    const ConditionalChannelWeightingBatchNormBackwardParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
