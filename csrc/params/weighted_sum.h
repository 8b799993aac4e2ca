// A sum of maps, those of another size brought to that of the first one (nearest), and its positive part.
//
//   sum = sum_j factor_j upsample(x_j)     y = max(sum, 0)
#pragma once

#include "core/dtype.h"

namespace litehrnet {

constexpr int kMaxTerms = 8;

// Planes are contiguous; strides are in elements. All have the element type.
struct WeightedTerm {
  const void* x;  // [N, C, H, W]
  void* grad_x;   // [N, C, H, W] contiguous; null: not wanted. Backward pass alone
  std::int64_t x_image_stride, x_plane_stride;
  double factor;
  int height, width;
};

struct WeightedSumParams {
  WeightedTerm term[kMaxTerms];  // the first has the sum's size
  void* sum;                     // [N, C, H, W] contiguous; null: not wanted
  void* y;                       // [N, C, H, W] contiguous; null: not wanted
  int terms, batch, channels;
};

struct WeightedSumBackwardParams {
  WeightedTerm term[kMaxTerms];  // x is not read
  const void* grad_sum;          // [N, C, H, W]; null: zeros
  const void* grad_y;            // [N, C, H, W]; null: zeros
  const void* y;                 // [N, C, H, W], read beside grad_y: gradients pass where it is not 0
  std::int64_t grad_sum_image_stride, grad_sum_plane_stride;
  std::int64_t grad_y_image_stride, grad_y_plane_stride;
  std::int64_t y_image_stride, y_plane_stride;
  int terms, batch, channels;
};

}  // namespace litehrnet
