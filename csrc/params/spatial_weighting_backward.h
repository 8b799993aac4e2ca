// Backward pass of spatial weighting and of the batch norm before it.
//
//   z_i = norm_i(x_i)     gate_i = sigmoid(W2 relu(W1 mean(z_i) + b1) + b2)     y_i = z_i gate_i
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

constexpr int kCoefficients = 4;  // of the gradient of a plane: see `coefficients`

// Planes are contiguous; strides are in elements. Feature maps have the element type; all else is float (double for
// fp64).
struct SpatialWeightingBackwardBranch {
  const void* grad_output;  // [N, 2c, H, W]: plane 2k is kept[k]'s, plane 2k + 1 is y[k]'s; without kept [N, c, H, W]
  const void* x;            // [N, c, H, W]
  void* grad_kept;          // [N, c, H, W]; null: nothing was kept
  void* grad_x;             // [N, c, H, W] contiguous; null in all branches: not wanted
  void* coefficients;       // [N, c, 4], 16-byte aligned: grad_x = k0 grad_y + k1 (x - k2) + k3
  BatchNorm norm;           // weight = null: z = x
  void* grad_norm_weight;   // [c]
  void* grad_norm_bias;     // [c]
  const void* w1;           // [R, c]; null in all branches: no gates, y = z
  const void* b1;           // [R]
  const void* w2;           // [c, R]
  const void* b2;           // [c]
  void* grad_w1;            // [R, c]
  void* grad_b1;            // [R]
  void* grad_w2;            // [c, R]
  void* grad_b2;            // [c]
  std::int64_t grad_output_image_stride, grad_output_plane_stride;
  std::int64_t x_image_stride, x_plane_stride;
  std::int64_t grad_kept_image_stride, grad_kept_plane_stride;
  int channels, hidden, height, width;  // hidden = R
};

struct SpatialWeightingBackwardParams {
  SpatialWeightingBackwardBranch branch[kMaxBranches];
  void* workspace;  // ..._workspace_bytes() bytes, 256-byte aligned, not initialised
  double eps;
  int branches, batch;
  bool batch_statistics;  // the norms' statistics depended on x, so that gradients pass through them
};

}  // namespace litehrnet
