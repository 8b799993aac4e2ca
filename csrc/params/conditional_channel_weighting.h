// The conditional channel weighting block of one to four branches.
//
//   kept, changed = the halves of x_i's channels
//   1  weighted = cross_resolution_weighting(changed)     2  filtered = depthwise_conv(weighted)
//   3  out = shuffle(concat(kept, spatial_weighting(filtered)))
//
// Source: figure 2b of the Lite-HRNet paper; `ConditionalChannelWeighting` in litehrnet_cuda/nn/blocks.py. Batch norms
// are folded into the weights before them.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

// Planes are contiguous; strides are in elements. c is half the branch's channels.
struct ConditionalChannelWeightingBranch {
  const void* x;  // [N, 2c, H, W]
  void* out;      // [N, 2c, H, W] contiguous, apart from x; holds the weighted half between the first two launches
  const void* depthwise_weight;  // [c, 3, 3]
  const void* depthwise_bias;    // [c]
  const void* gate_w1;           // [S, c]      of spatial weighting
  const void* gate_b1;           // [S]
  const void* gate_w2;           // [c, S]
  const void* gate_b2;           // [c]
  std::int64_t x_image_stride, x_plane_stride;
  int channels, gate_hidden, height, width;  // channels = c, gate_hidden = S
};

// C is the sum of the branches' c. All tensors have one element type.
struct ConditionalChannelWeightingParams {
  ConditionalChannelWeightingBranch branch[kMaxBranches];
  const void* w1;             // [R, C]     of cross-resolution weighting
  const void* b1;             // [R]
  const void* w2_transposed;  // [R, C]
  const void* b2;             // [C]
  void* workspace;            // conditional_channel_weighting_workspace_bytes() bytes, 16-byte aligned, not initialised
  int branches, batch, hidden;  // hidden = R
};

}  // namespace litehrnet
