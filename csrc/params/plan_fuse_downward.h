// The step FuseDownward of a plan.
#pragma once

#include "params/plan_lower_products.h"

namespace litehrnet {

constexpr int kMaxStackedProducts = 6;

// W dw(x) + b. x are the planes of all chains of the product, one after the other; a plane that several chains read
// is there several times.
struct PlanStackedProduct {
  PlaneSources input;       // [columns], of the higher resolution
  const void* filter;       // [columns, 3, 3], element type
  const void* filter_bias;  // [columns] float, double for fp64
  const void* panels;       // W [rows, columns] in panels of core/tile_product.cuh, element type
  const void* bias;         // [rows] float, double for fp64
  PlaneTarget output;       // [rows], ceil(height / 2) x ceil(width / 2)
};

struct PlanFuseDownwardParams {
  PlanStackedProduct product[kMaxStackedProducts];  // product 0 is the total, which kept and lower are added to
  PlaneSources kept;                                // [rows of product 0]
  PlanLowerProduct lower[kMaxLowerProducts];        // `gated` is ignored: nothing is pending on gates
  int products, lowers, batch;
  int vec;  // elements of a vector, a power of two, that all planes of kept and of the outputs are aligned to
};

}  // namespace litehrnet
