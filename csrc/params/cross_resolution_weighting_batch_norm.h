// Cross-resolution weighting with its two batch norms, for training.
//
//   hidden = W1 pool(x)     logits = W2 relu(norm1(hidden))     y_i = x_i * upsample(sigmoid(norm2(logits)))_i
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

// Branches are ordered from high to low resolution; the last one has the size (h, w) that all are pooled to. Any sizes
// are allowed. Planes are contiguous; strides are in elements.
struct CrossResolutionWeightingBatchNormBranch {
  const void* x;  // [N, c, H, W]
  void* y;        // [N, c, H, W] contiguous, apart from x; null in all branches: not wanted
  std::int64_t x_image_stride, x_plane_stride;
  int channels, height, width;
};

// C is the sum of the branches' channels. x, y and logits have the element type; all else is float (double for fp64).
struct CrossResolutionWeightingBatchNormParams {
  CrossResolutionWeightingBatchNormBranch branch[kMaxBranches];
  const void* w1;  // [R, C]
  const void* w2;  // [C, R]
  BatchNorm norm1;  // of R channels
  BatchNorm norm2;  // of C channels
  void* hidden;     // [N, R, h, w], kept for the backward pass
  void* logits;     // [N, C, h, w], kept for the backward pass
  void* workspace;  // ..._workspace_bytes() bytes, 16-byte aligned, not initialised
  double eps;
  int branches, batch, hidden_channels;  // hidden_channels = R
  bool batch_statistics;                 // else the norms' mean and variance are read
};

}  // namespace litehrnet
