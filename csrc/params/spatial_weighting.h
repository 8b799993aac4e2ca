// Spatial weighting of one to four branches.
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

// Planes are contiguous; strides are in elements. Feature maps have one element type, and so have the weights where
// accumulate_weights does not say otherwise; partial_sums and the batch norm are float (double for fp64).
struct SpatialWeightingBranch {
  const void* x;     // [N, c, H, W]; what is gated is z = norm(x)
  const void* kept;  // [N, c, H, W], goes to the even planes of out; null: nothing is kept, out is [N, c, H, W]
  void* out;         // [N, 2c, H, W] contiguous: plane 2k is kept[k], plane 2k + 1 is z[k] * gate[k]
  const void*
      partial_sums;  // [N, c, tiles] float (double for fp64), adding up to the sum of x's plane; null: sum x here
  const void* w1;    // [R, c]
  const void* b1;    // [R]
  const void* w2;    // [c, R]
  const void* b2;    // [c]
  std::int64_t x_image_stride, x_plane_stride;
  std::int64_t kept_image_stride, kept_plane_stride;
  int channels, hidden, height, width;  // hidden = R
  int tiles;                            // sums per plane
  BatchNorm norm;                       // mean and variance are read; weight = null: z = x
};

struct SpatialWeightingParams {
  SpatialWeightingBranch branch[kMaxBranches];
  int branches, batch;
  double eps;               // of the batch norms
  bool accumulate_weights;  // training: w1, b1, w2 and b2 are float (double for fp64); batch norms need it
};

}  // namespace litehrnet
