// Launchers of depthwise_conv_batch_norm_backward for GPUs. The maths and the mapping are in
// depthwise_conv_batch_norm_backward.cu.
#pragma once

#include "core/platform.h"
#include "params/depthwise_conv_batch_norm_backward.h"

namespace litehrnet {

std::size_t depthwise_conv_batch_norm_backward_workspace_bytes(const DepthwiseConvBatchNormBackwardParams& params,
                                                               DType dtype);

// What remains to be done after the launch, by reductions: grad_weight of every branch from parts in the workspace.
Reductions depthwise_conv_batch_norm_backward_reductions(const DepthwiseConvBatchNormBackwardParams& params,
                                                         DType dtype);

// One launch: grad_x, and the parts of grad_weight. None without images, when the reductions give zeros.
cudaError_t launch_depthwise_conv_batch_norm_backward(const DepthwiseConvBatchNormBackwardParams& params, DType dtype,
                                                      cudaStream_t stream);

// One launch: the reductions by themselves.
cudaError_t launch_reductions(const Reductions& reductions, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
