// The step SeparableConvolution of a plan: independent separable convolutions.
#pragma once

#include "core/planes.h"

namespace litehrnet {

constexpr int kMaxSeparablePaths = 8;

// y = relu(W dw(e) + b) with e = relu(W_e x + b_e), or e = x where nothing is expanded. dw pads with zeros.
// Matrices are in panels of 4 rows, see core/tile_product.cuh: [ceil(rows / 4)][columns][4], 16-byte aligned. Biases
// are float, double for fp64.
struct PlanSeparablePath {
  PlaneSources input;
  PlaneSources output;  // planes that are written: relu and factor are not used; their size is that after the stride
  const void* expand_weight;     // panels of [expanded, input.count]
  const void* expand_bias;       // [expanded]
  const void* depthwise_weight;  // [channels of e, 3, 3], element type
  const void* depthwise_bias;    // [channels of e]
  const void* weight;            // panels of [output.count, channels of e]
  const void* bias;              // [output.count]
  int expanded;                  // channels of e; 0: e = x
  int stride;                    // 1 or 2
  int output_aligned;            // elements, a power of two: starts of all planes in all images are multiples
};

struct PlanSeparableParams {
  PlanSeparablePath path[kMaxSeparablePaths];
  int paths, batch;
};

}  // namespace litehrnet
