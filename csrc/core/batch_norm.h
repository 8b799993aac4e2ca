// A batch norm, and the gates of cross-resolution weighting, as parameters of kernels.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

// y = (x - mean) / sqrt(variance + eps) * weight + bias, channel by channel. All arrays are [channels], float, double for
// fp64. With batch statistics the forward pass writes mean and variances; with running ones it reads mean and variance.
// The backward pass reads. weight = null: no batch norm at this place.
struct BatchNorm {
  const void* weight;
  const void* bias;
  void* mean;
  void* variance;           // biased: what normalises
  void* unbiased_variance;  // what the running variance moves to; null: not wanted
};

// Parts of a channel's batch statistics, written by one launch and merged by the blocks of the next that need them.
constexpr int kMaxParts = 32;  // a channel, where every block of the next launch merges its own channels

// The gates of cross-resolution weighting as a kernel computes them from what lies in memory:
// sigmoid(norm(logits[n, c, nearest position])).
struct PositionGates {
  const void* logits;  // [N, C, h, w], element type; null: no gates
  BatchNorm norm;      // of C channels
  const void* parts;   // Moments [C][part_count]; null: mean and variance are there already
  double eps;
  int part_count, channels, height, width;  // C, h, w
};

}  // namespace litehrnet
