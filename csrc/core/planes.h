// Feature maps as the steps of a plan see them: plane by plane, wherever those lie.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

// One plane that a step reads, with what is pending on it: the reader takes max(x, 0) if `relu`, then x * factor.
// A table of these in device memory is an operand; it is made once for an arena and a batch size.
struct PlaneSource {
  const void* data;                  // of image 0, element type
  const void* factor;                // of image 0, float, double for fp64; null: 1
  std::int64_t image_stride;         // of data, in elements
  std::int64_t factor_image_stride;  // in elements
  int relu;
};

// An operand that is read: `count` planes of height x width, rows contiguous.
struct PlaneSources {
  const PlaneSource* planes;  // [count], device memory; null: there is no such operand
  int count, height, width;
};

// An operand that is written: planes that follow one another.
struct PlaneTarget {
  void* data;  // of image 0 and the first plane
  std::int64_t image_stride;
  int plane_stride, count, height, width;
};

// Spatial weighting's gate of one branch, to be evaluated by the step: factors = sigmoid(W2 relu(W1 mean + b1) + b2).
// A null `sums` says that nothing is pending. Sources of the step that it gates have null factors and `gate_channel`
// tables beside them, see the steps.
struct PendingGate {
  const void* sums;   // [N, channels, tiles] float, double for fp64
  const void* w1;     // [hidden, channels], element type
  const void* b1;     // [hidden], float, double for fp64
  const void* w2;     // [channels, hidden], element type
  const void* b2;     // [channels]
  void* factors;      // [N, channels]: stored for later steps
  int channels, hidden, tiles, pixels;
};

}  // namespace litehrnet
