// Backward pass of the depthwise convolution before a batch norm. The batch norm's own backward pass is in
// spatial_weighting_backward.h, whose coefficients give the gradient of `filtered` here.
#pragma once

#include "core/batch_norm.h"
#include "core/reduction.h"

namespace litehrnet {

struct DepthwiseConvBatchNormBackwardBranch {
  const void* grad_y;        // [N, c, H, W], of what follows the batch norm
  const void* filtered;      // [N, c, H, W] contiguous
  const void* coefficients;  // [N, c, 4]: grad filtered = k0 grad_y + k1 (filtered - k2) + k3
  const void* x;             // [N, c, H, W], before the gates
  const void* weight;        // [c, 3, 3]
  void* grad_x;              // [N, c, H, W], apart from what is read: of x gate, what was filtered
  void* grad_weight;         // [c, 3, 3]
  std::int64_t grad_y_image_stride, grad_y_plane_stride;
  std::int64_t x_image_stride, x_plane_stride;
  std::int64_t grad_x_image_stride, grad_x_plane_stride;
  int channels, height, width;
  int gate_channel;
};

struct DepthwiseConvBatchNormBackwardParams {
  DepthwiseConvBatchNormBackwardBranch branch[kMaxBranches];
  PositionGates gates;  // logits = null: x was filtered as it is; parts are null here
  void* workspace;
  int branches, batch;
};

}  // namespace litehrnet
