// The conditional channel weighting block with its batch norms, for training.
//
//   kept, changed = the halves of x_i's channels
//   1, 2  hidden, logits of cross-resolution weighting     3, 4  filtered = depthwise(changed * gates), its statistics
//   5     out = shuffle(concat(kept, spatial_weighting(norm(filtered))))
//
// Source: figure 2b of the Lite-HRNet paper; `ConditionalChannelWeighting` in litehrnet_cuda/nn/blocks.py.
#pragma once

#include "core/batch_norm.h"

namespace litehrnet {

// Planes are contiguous; strides are in elements. c is half the branch's channels. x, out, filtered and logits have the
// element type; all else is float (double for fp64).
struct ConditionalChannelWeightingBatchNormBranch {
  const void* x;                 // [N, 2c, H, W]
  void* out;                     // [N, 2c, H, W] contiguous, apart from x
  void* filtered;                // [N, c, H, W] contiguous, kept for the backward pass
  const void* depthwise_weight;  // [c, 3, 3]
  BatchNorm norm;                // of c channels
  const void* gate_w1;           // [S, c]      of spatial weighting
  const void* gate_b1;           // [S]
  const void* gate_w2;           // [c, S]
  const void* gate_b2;           // [c]
  std::int64_t x_image_stride, x_plane_stride;
  int channels, gate_hidden, height, width;  // channels = c, gate_hidden = S
};

// C is the sum of the branches' c; h, w are the last branch's H, W.
struct ConditionalChannelWeightingBatchNormParams {
  ConditionalChannelWeightingBatchNormBranch branch[kMaxBranches];
  const void* w1;  // [R, C]     of cross-resolution weighting
  const void* w2;  // [C, R]
  BatchNorm norm1, norm2;
  void* hidden;     // [N, R, h, w], kept for the backward pass
  void* logits;     // [N, C, h, w], kept for the backward pass
  void* workspace;  // ..._workspace_bytes() bytes, 16-byte aligned, not initialised
  double eps;
  int branches, batch, hidden_channels;  // hidden_channels = R
  bool batch_statistics;                 // else the norms' mean and variance are read
};

}  // namespace litehrnet
