// Launchers of the step ResolutionGates of a plan for GPUs. The maths and the mapping are in plan_resolution_gates.cuh.
#pragma once

#include "core/platform.h"
#include "params/plan_resolution_gates.h"

namespace litehrnet {

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
