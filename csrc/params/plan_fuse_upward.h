// The step FuseUpward of a plan.
#pragma once

#include "params/plan_lower_products.h"

namespace litehrnet {

struct PlanFuseUpwardParams {
  PendingGate gate[kMaxBranches];  // their factors are the step's own, numbered as in core/pending_gate.cuh
  PlaneSources top;                 // [rows]
  const int* top_gated;             // [rows] where in the step's own factors each plane's is, or -1; null: all -1
  PlanLowerProduct lower[kMaxLowerProducts];
  const void* bias;    // [rows] float, double for fp64
  PlaneTarget output;  // [rows], of top's size
  PlaneTarget also;    // the same after a ReLU; no data: not wanted
  int gates, lowers, batch;
  int relu;  // of `output`
  int vec;   // elements of a vector, a power of two, that all planes of top, output and also are aligned to
};

}  // namespace litehrnet
