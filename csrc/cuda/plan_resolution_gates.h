// The plan's step ResolutionGates: parameters and launcher. The maths and the mapping are in plan_resolution_gates.cuh.
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

// What one block owns, and what follows from it. Depends on sizes alone.
struct PlanResolutionGatesGeometry {
  int rows, columns;         // positions of a tile, at the edges of the map some of them missing
  int splits;                // blocks that share a tile's outputs
  int storing;               // blocks beside those, one an image, that store pending gates' factors; 0: tiles do
  std::int64_t blocks;       // of the launch
  std::size_t shared_bytes;  // dynamic shared memory of a block
};
PlanResolutionGatesGeometry plan_resolution_gates_geometry(const PlanResolutionGatesParams& params, DType dtype);

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cuh file, else the launch's result.
cudaError_t launch_plan_resolution_gates(const PlanResolutionGatesParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
