// Depthwise 3x3 convolution of one to four branches.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

// Planes are contiguous; strides are in elements. All tensors but partial_sums have one element type.
struct DepthwiseConvBranch {
  const void* x;       // [N, c, H, W]
  const void* weight;  // [c, 3, 3], batch norm folded
  const void* bias;    // [c]
  void* y;             // [N, c, H, W] contiguous
  void* partial_sums;  // [N, c, tiles] float (double for fp64), tiles = depthwise_conv_tiles(N, H, W); null: not wanted
  std::int64_t x_image_stride, x_plane_stride;
  int channels, height, width;
};

struct DepthwiseConvParams {
  DepthwiseConvBranch branch[kMaxBranches];
  int branches, batch;
};

}  // namespace litehrnet
