// Backward pass of cross-resolution weighting with batch norms.
#pragma once

#include "core/batch_norm.h"
#include "core/reduction.h"

namespace litehrnet {

struct CrossResolutionWeightingBatchNormBackwardBranch {
  const void* grad_y;  // [N, c, H, W]
  const void* x;       // [N, c, H, W]
  void* grad_x;        // [N, c, H, W]; may be grad_y's memory with grad_y's strides
  std::int64_t grad_y_image_stride, grad_y_plane_stride;
  std::int64_t x_image_stride, x_plane_stride;
  std::int64_t grad_x_image_stride, grad_x_plane_stride;
  int channels, height, width;
};

// Feature maps and logits have the element type; all else is float (double for fp64).
struct CrossResolutionWeightingBatchNormBackwardParams {
  CrossResolutionWeightingBatchNormBackwardBranch branch[kMaxBranches];
  const void* w1;      // [R, C]
  const void* w2;      // [C, R]
  BatchNorm norm1;     // mean and variance are those that the forward pass used
  BatchNorm norm2;
  const void* hidden;  // [N, R, h, w]
  const void* logits;  // [N, C, h, w]
  void* grad_w1;       // [R, C]
  void* grad_w2;       // [C, R]
  void* grad_norm1_weight;  // [R]
  void* grad_norm1_bias;    // [R]
  void* grad_norm2_weight;  // [C]
  void* grad_norm2_bias;    // [C]
  void* workspace;
  Reductions aside;  // somebody else's, done by the last launch
  double eps;
  int branches, batch, hidden_channels;
  bool batch_statistics;  // the statistics depended on x, so that gradients pass through them
};

}  // namespace litehrnet
