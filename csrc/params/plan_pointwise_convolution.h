// The step PointwiseConvolution of a plan: independent 1x1 convolutions.
#pragma once

#include "core/planes.h"

namespace litehrnet {

constexpr int kMaxPointwisePaths = 8;

// y = W x + b, and a ReLU if `relu`.
struct PlanPointwisePath {
  PlaneSources input;
  PlaneSources output;  // planes that are written: relu and factor are not used
  const void* weight;   // panels of 4 rows, see core/tile_product.cuh: [ceil(rows / 4)][columns][4], 16-byte aligned
  const void* bias;     // [rows] float, double for fp64
  int relu;
  int input_aligned, output_aligned;  // elements, a power of two: starts of all planes in all images are multiples
};

struct PlanPointwiseParams {
  PlanPointwisePath path[kMaxPointwisePaths];
  int paths, batch;
};

}  // namespace litehrnet
