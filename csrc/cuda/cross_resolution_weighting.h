// Launchers of cross_resolution_weighting for GPUs. The maths and the mapping are in cross_resolution_weighting.cu.
#pragma once

#include "core/platform.h"
#include "params/cross_resolution_weighting.h"

namespace litehrnet {

// The positions of the lowest resolution that one block owns, and what follows from them.
struct CrossResolutionWeightingGeometry {
  int rows, columns;         // positions of a tile, at the edges of the map some of them missing
  std::int64_t tiles;        // over all images
  std::size_t shared_bytes;  // dynamic shared memory of a block
};
CrossResolutionWeightingGeometry cross_resolution_weighting_geometry(const CrossResolutionWeightingParams& params,
                                                                     DType dtype);

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cu file, else the launch's result.
cudaError_t launch_cross_resolution_weighting_forward(const CrossResolutionWeightingParams& params, DType dtype,
                                                      cudaStream_t stream);

}  // namespace litehrnet
