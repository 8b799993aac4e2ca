// Plain C entry points to the launchers of spatial weighting for training, for tests without torch.
#include "cuda/spatial_weighting.h"
#include "cuda/spatial_weighting_backward.h"

using namespace litehrnet;

extern "C" {

int spatial_weighting(const SpatialWeightingParams* params, int dtype) {
  return launch_spatial_weighting_forward(*params, static_cast<DType>(dtype), nullptr);
}

int spatial_weighting_backward(const SpatialWeightingBackwardParams* params, int dtype) {
  return launch_spatial_weighting_backward(*params, static_cast<DType>(dtype), nullptr);
}

std::size_t spatial_weighting_backward_workspace(const SpatialWeightingBackwardParams* params, int dtype) {
  return spatial_weighting_backward_workspace_bytes(*params, static_cast<DType>(dtype));
}

}  // extern "C"
