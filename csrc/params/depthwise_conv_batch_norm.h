// Depthwise 3x3 convolution and batch norm of one to four branches, for training.
//
//   filtered_i = weight_i * (x_i gate_i)     y_i = norm_i(filtered_i)
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

// Planes are contiguous; strides are in elements. x, filtered and y have the element type; all else is float (double
// for fp64).
struct DepthwiseConvBatchNormBranch {
  const void* x;       // [N, c, H, W]
  const void* weight;  // [c, 3, 3]
  BatchNorm norm;      // of c channels
  void* filtered;      // [N, c, H, W] contiguous, kept for the backward pass
  void* y;             // [N, c, H, W] contiguous; null in all branches: not wanted
  void* plane_sums;    // [N, c]: of filtered; null: not wanted
  std::int64_t x_image_stride, x_plane_stride;
  int channels, height, width;
  int gate_channel;  // the branch's first channel among those of the gates
};

struct DepthwiseConvBatchNormParams {
  DepthwiseConvBatchNormBranch branch[kMaxBranches];
  PositionGates gates;  // logits = null: x is filtered as it is
  void* workspace;      // ..._workspace_bytes() bytes, 16-byte aligned, not initialised
  double eps;
  int branches, batch;
  bool batch_statistics;  // else the norms' mean and variance are read
};

}  // namespace litehrnet
