// Launchers of depthwise_conv_batch_norm for GPUs. The maths and the mapping are in depthwise_conv_batch_norm.cu.
#pragma once

#include "core/platform.h"
#include "params/depthwise_conv_batch_norm.h"

namespace litehrnet {

std::size_t depthwise_conv_batch_norm_workspace_bytes(const DepthwiseConvBatchNormParams& params, DType dtype);

// Two launches: filtered, which also stores the gates' statistics; plane_sums and the norms' statistics. A third one
// where y is wanted.
cudaError_t launch_depthwise_conv_batch_norm_forward(const DepthwiseConvBatchNormParams& params, DType dtype,
                                                     cudaStream_t stream);

}  // namespace litehrnet
