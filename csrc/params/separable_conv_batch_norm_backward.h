// Backward pass of separable_conv_batch_norm.
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

// As in separable_conv_batch_norm.h.
struct SeparableConvBatchNormBackwardParams {
  const void* grad_y;            // [N, K, H', W']
  const void* x;                 // [N, C, H, W]
  const void* depthwise_weight;  // [C, 3, 3], or null
  const void* weight;            // [K, C], or null
  BatchNorm norm1, norm2;
  const void* filtered;         // [N, C, H', W'], or null
  const void* mixed;            // [N, K, H', W'], or null
  void* grad_x;                 // [N, C, H, W] contiguous; null: not wanted
  void* grad_depthwise_weight;  // [C, 3, 3]
  void* grad_weight;            // [K, C]
  void* grad_norm1_weight;      // [C]
  void* grad_norm1_bias;        // [C]
  void* grad_norm2_weight;      // [K]
  void* grad_norm2_bias;        // [K]
  std::int64_t grad_y_image_stride, grad_y_plane_stride;
  std::int64_t x_image_stride, x_plane_stride;
  double eps;
  int batch, channels, outputs, height, width, stride;
  bool relu;
  bool batch_statistics;  // the statistics depended on x, so that gradients pass through them
};

}  // namespace litehrnet
