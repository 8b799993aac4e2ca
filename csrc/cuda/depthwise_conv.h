// Depthwise 3x3 convolution of one to four branches: parameters and launcher. The maths and the mapping are in
// depthwise_conv.cu.
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

// Tiles that a plane is cut into, each a number of whole rows; tile t adds its sum of y at partial_sums[n, c, t].
int depthwise_conv_tiles(int batch, int height, int width);

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cu file, else the launch's result.
cudaError_t launch_depthwise_conv_forward(const DepthwiseConvParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
