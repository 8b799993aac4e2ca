// Backward pass of the conditional channel weighting block with batch norms.
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

// Planes are contiguous; strides are in elements. c is half the branch's channels. grad_out, x, grad_x, filtered and logits
// have the element type; all else is float (double for fp64).
struct ConditionalChannelWeightingBatchNormBackwardBranch {
  const void* grad_out;          // [N, 2c, H, W]
  const void* x;                 // [N, 2c, H, W]
  const void* filtered;          // [N, c, H, W] contiguous
  void* grad_x;                  // [N, 2c, H, W] contiguous
  const void* depthwise_weight;  // [c, 3, 3]
  BatchNorm norm;                // of c channels
  const void* gate_w1;           // [S, c]
  const void* gate_b1;           // [S]
  const void* gate_w2;           // [c, S]
  const void* gate_b2;           // [c]
  void* grad_depthwise_weight;   // [c, 3, 3]
  void* grad_norm_weight;        // [c]
  void* grad_norm_bias;          // [c]
  void* grad_gate_w1;            // [S, c]
  void* grad_gate_b1;            // [S]
  void* grad_gate_w2;            // [c, S]
  void* grad_gate_b2;            // [c]
  std::int64_t grad_out_image_stride, grad_out_plane_stride;
  std::int64_t x_image_stride, x_plane_stride;
  int channels, gate_hidden, height, width;  // channels = c, gate_hidden = S
};

struct ConditionalChannelWeightingBatchNormBackwardParams {
  ConditionalChannelWeightingBatchNormBackwardBranch branch[kMaxBranches];
  const void* w1;  // [R, C]
  const void* w2;  // [C, R]
  BatchNorm norm1, norm2;
  const void* hidden;  // [N, R, h, w]
  const void* logits;  // [N, C, h, w]
  void* grad_w1;       // [R, C]
  void* grad_w2;       // [C, R]
  void* grad_norm1_weight;  // [R]
  void* grad_norm1_bias;    // [R]
  void* grad_norm2_weight;  // [C]
  void* grad_norm2_bias;    // [C]
  void* workspace;          // ..._workspace_bytes() bytes, 16-byte aligned, not initialised
  double eps;
  int branches, batch, hidden_channels;
  bool batch_statistics;  // the statistics depended on x, so that gradients pass through them
};

}  // namespace litehrnet
