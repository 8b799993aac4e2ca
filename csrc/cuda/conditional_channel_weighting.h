// Launcher of conditional_channel_weighting for GPUs, and its workspace.
#pragma once

#include "core/platform.h"
#include "params/conditional_channel_weighting.h"

namespace litehrnet {

// The filtered half and its partial sums, every branch's at a multiple of 256 bytes. Reads sizes, no pointers.
std::size_t conditional_channel_weighting_workspace_bytes(const ConditionalChannelWeightingParams& params, DType dtype);

// Three launches, whatever the number of branches. Returns the first error.
cudaError_t launch_conditional_channel_weighting_forward(const ConditionalChannelWeightingParams& params, DType dtype,
                                                         cudaStream_t stream);

}  // namespace litehrnet
