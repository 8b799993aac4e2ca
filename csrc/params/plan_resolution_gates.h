// The step ResolutionGates of a plan.
#pragma once

#include "core/planes.h"

namespace litehrnet {

// Branches are ordered from high to low resolution; all are pooled to the size (h, w) of the last one. C is the sum of
// the branches' planes. Weights have the element type; biases, sums and factors are float (double for fp64).
//
// Packed by the host:
// - `w2` has rows of round_up(hidden, 4) elements, the last of them zero, and starts at a multiple of 16 bytes;
// - `gated`: one pair per channel of all pending gates, those that the step needs first. The first number is the
//   channel's, counted through all gates, with each gate's first channel at a multiple of 4 (core/pending_gate.cuh);
//   the second one is the source that the factor applies to, counted through all branches, or -1.
struct PlanResolutionGatesParams {
  PlaneSources branch[kMaxBranches];  // planes that pending gates gate have null factors
  PendingGate gate[kMaxBranches];
  const void* w1;    // [hidden, C]
  const void* b1;    // [hidden]
  const void* w2;    // [C, round_up(hidden, 4)]
  const void* b2;    // [C]
  const int* gated;  // [sum of the gates' channels, 2], device memory
  PlaneTarget output;  // C planes of h x w without padding, element type
  int branches, gates, batch, hidden;
  int needed;   // channels at the beginning of `gated` whose factors the step applies
  int vec;      // elements of the widest vectors that sources' planes are aligned to, a power of two
};

}  // namespace litehrnet
