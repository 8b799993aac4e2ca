// Launchers of spatial_weighting_backward for GPUs. The maths and the mapping are in spatial_weighting_backward.cu.
#pragma once

#include "core/platform.h"
#include "params/spatial_weighting_backward.h"

namespace litehrnet {

std::size_t spatial_weighting_backward_workspace_bytes(const SpatialWeightingBackwardParams& params, DType dtype);

// Three launches: plane sums, and grad_kept; the gates of every image; every channel's parameters and coefficients. The
// second is left out without gates; a further one where grad_x is wanted. Of an empty batch the third alone, which
// writes zeros.
cudaError_t launch_spatial_weighting_backward(const SpatialWeightingBackwardParams& params, DType dtype,
                                              cudaStream_t stream);

}  // namespace litehrnet
