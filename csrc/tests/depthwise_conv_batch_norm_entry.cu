// Plain C entry points to the launchers of the depthwise convolution for training, for tests without torch.
#include "cuda/depthwise_conv_batch_norm.h"
#include "cuda/depthwise_conv_batch_norm_backward.h"

using namespace litehrnet;

extern "C" {

std::size_t depthwise_conv_batch_norm_workspace(const DepthwiseConvBatchNormParams* params, int dtype) {
  return depthwise_conv_batch_norm_workspace_bytes(*params, static_cast<DType>(dtype));
}

int depthwise_conv_batch_norm(const DepthwiseConvBatchNormParams* params, int dtype) {
  return launch_depthwise_conv_batch_norm_forward(*params, static_cast<DType>(dtype), nullptr);
}

std::size_t depthwise_conv_batch_norm_backward_workspace(const DepthwiseConvBatchNormBackwardParams* params,
                                                         int dtype) {
  return depthwise_conv_batch_norm_backward_workspace_bytes(*params, static_cast<DType>(dtype));
}

// With the reductions that remain.
int depthwise_conv_batch_norm_backward(const DepthwiseConvBatchNormBackwardParams* params, int dtype_number) {
  const auto dtype = static_cast<DType>(dtype_number);
  const cudaError_t error = launch_depthwise_conv_batch_norm_backward(*params, dtype, nullptr);
  if (error != cudaSuccess) return error;
  return launch_reductions(depthwise_conv_batch_norm_backward_reductions(*params, dtype), dtype, nullptr);
}

int reductions(const Reductions* reductions, int dtype) {
  return launch_reductions(*reductions, static_cast<DType>(dtype), nullptr);
}

}  // extern "C"
