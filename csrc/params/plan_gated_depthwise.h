// The step GatedDepthwise of a plan.
#pragma once

#include "core/planes.h"

namespace litehrnet {

// Where the result of one channel goes: free planes do not always follow one another.
struct alignas(16) GatedDepthwisePlane {
  PlaneSource source;
  Place output;  // element type, apart from every source
};
static_assert(sizeof(GatedDepthwisePlane) == 48, "tables are written byte by byte");

// Feature maps, gates and weights have the element type; biases and sums are float (double for fp64).
struct PlanGatedDepthwiseBranch {
  const GatedDepthwisePlane* planes;  // [channels], device memory
  const void* memory;                 // that the tables' places are in
  const void* gates;                  // [N, channels, gate_height, gate_width]
  const void* weight;                 // [channels, 3, 3], batch norm folded
  const void* bias;                   // [channels]
  void* sums;                         // [N, channels, ceil(height / rows_per_sum)]
  std::int64_t gates_image_stride, sums_image_stride;  // in elements
  int channels, height, width, gate_height, gate_width;
  int rows_per_sum;
  int vec;  // elements of the widest vectors that planes that are read or written are aligned to, a power of two
};

struct PlanGatedDepthwiseParams {
  PlanGatedDepthwiseBranch branch[kMaxBranches];
  int branches, batch;
};

}  // namespace litehrnet
