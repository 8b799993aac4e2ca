// The step HeadConvolution of a plan.
#pragma once

#include "core/planes.h"

namespace litehrnet {

struct PlanHeadConvolutionParams {
  PlaneSources input;        // [channels]
  PlaneSources below;        // [channels] of any size; no planes: nothing is added
  const void* filter;        // [channels, 3, 3], element type
  const void* filter_bias;   // [channels] float, double for fp64
  const void* panels;        // W [rows, channels] in panels of core/tile_product.cuh, element type
  const void* bias;          // [rows] float, double for fp64
  const void* final_panels;  // W_f [output.count, rows] likewise; null: there is no last layer, output.count == rows
  const void* final_bias;    // [output.count]
  PlaneTarget output;        // of the input's size
  int rows, batch;
  int vec;  // elements of a vector, a power of two, that all planes of the output are aligned to
};

}  // namespace litehrnet
