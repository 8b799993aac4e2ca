// A depthwise 3x3 convolution with batch norm, then a 1x1 convolution with batch norm and perhaps a ReLU, for training;
// or the second half alone, or its batch norm alone.
//
//   filtered = depthwise(x)     mixed = W norm1(filtered)     y = norm2(mixed), or its positive part
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

// Planes are contiguous; strides are in elements. x, filtered, mixed and y have the element type; all else is float
// (double for fp64). H', W' are H, W over the stride, rounded up.
struct SeparableConvBatchNormParams {
  const void* x;                 // [N, C, H, W]
  const void* depthwise_weight;  // [C, 3, 3]; null: x is mixed as it is
  const void* weight;            // [K, C]; null: no convolution, mixed = x, K = C
  BatchNorm norm1;               // of C channels; weight = null without a depthwise convolution
  BatchNorm norm2;               // of K channels
  void* filtered;                // [N, C, H', W'] contiguous, kept for the backward pass; null without ...
  void* mixed;                   // [N, K, H', W'] contiguous, kept for the backward pass; null without weight
  void* y;                       // [N, K, H', W'] contiguous
  std::int64_t x_image_stride, x_plane_stride;
  double eps;
  int batch, channels, outputs, height, width, stride;  // channels = C, outputs = K, height = H, width = W
  bool relu;
  bool batch_statistics;  // else the norms' mean and variance are read
};

}  // namespace litehrnet
