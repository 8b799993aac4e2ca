// The step StemConvolution of a plan: the network's first convolution.
#pragma once

#include "core/planes.h"

namespace litehrnet {

// y = relu(W * x + b), a full 3x3 convolution with stride 2 and padding 1.
struct PlanStemParams {
  PlaneSources input;
  PlaneSources output;  // planes that are written: relu and factor are not used; half the size, rounded up
  const void* weight;   // [rows, 9 input.count] in panels of 4 rows, see core/tile_product.cuh; 16-byte aligned
  const void* bias;     // [rows] float, double for fp64
  int output_aligned;   // elements, a power of two: starts of all planes in all images are multiples
  int batch;
};

}  // namespace litehrnet
