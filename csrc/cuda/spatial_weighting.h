// Launchers of spatial_weighting for GPUs. The maths and the mapping are in spatial_weighting.cu.
#pragma once

#include "core/platform.h"
#include "params/spatial_weighting.h"

namespace litehrnet {

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cu file, else the launch's result.
cudaError_t launch_spatial_weighting_forward(const SpatialWeightingParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
