// A path from a lower resolution, up to the upsampling, as an operand of the fuse steps' launches.
#pragma once

#include "core/planes.h"

namespace litehrnet {

constexpr int kMaxLowerProducts = 4;

// A product W x that nearest upsampling spreads over the step's map.
struct PlanLowerProduct {
  PlaneSources input;  // [columns]
  const int* gated;    // [columns] where in the step's own factors each plane's is, -1: `input` has it; null: all -1
  const void* panels;  // W [rows, columns] in panels of core/tile_product.cuh, element type
};

}  // namespace litehrnet
