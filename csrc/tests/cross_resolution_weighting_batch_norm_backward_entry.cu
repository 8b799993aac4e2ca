// Plain C entry points to the launcher of cross-resolution weighting's backward pass, for tests without torch.
#include "cuda/cross_resolution_weighting_batch_norm_backward.h"

using namespace litehrnet;

extern "C" {

int cross_resolution_weighting_batch_norm_backward(const CrossResolutionWeightingBatchNormBackwardParams* params,
                                                   int dtype) {
  return launch_cross_resolution_weighting_batch_norm_backward(*params, static_cast<DType>(dtype), nullptr);
}

std::size_t cross_resolution_weighting_batch_norm_backward_workspace(
    const CrossResolutionWeightingBatchNormBackwardParams* params, int dtype) {
  return cross_resolution_weighting_batch_norm_backward_workspace_bytes(*params, static_cast<DType>(dtype));
}

}  // extern "C"
