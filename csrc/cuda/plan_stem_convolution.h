// Step of a plan: the network's first convolution. Parameters and launcher; the mapping is in the .cuh file.
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

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cuh file, else the launch's result.
cudaError_t launch_plan_stem_convolution(const PlanStemParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
