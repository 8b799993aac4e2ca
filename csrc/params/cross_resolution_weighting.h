// Cross-resolution weighting of one to four branches.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

// Branches are ordered from high to low resolution; the last one has the size (h, w) that all are pooled to. Any sizes
// are allowed. Planes are contiguous; strides are in elements.
struct CrossResolutionWeightingBranch {
  const void* x;  // [N, c, H, W]
  void* y;        // [N, c, H, W], apart from every x: where windows overlap, other blocks still read x
  std::int64_t x_image_stride, x_plane_stride;
  std::int64_t y_image_stride, y_plane_stride;
  int channels, height, width;
};

// C is the sum of the branches' channels. All tensors have one element type; batch norms are folded into the matrices.
struct CrossResolutionWeightingParams {
  CrossResolutionWeightingBranch branch[kMaxBranches];
  const void* w1;  // [R, C]
  const void* b1;  // [R]
  const void*
      w2_transposed;  // [R, C], so that neighbouring threads, which own neighbouring outputs, read neighbouring weights
  const void* b2;     // [C]
  int branches, batch, hidden;  // hidden = R
};

}  // namespace litehrnet
