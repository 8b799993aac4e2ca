// Sums over parts that an earlier launch has written: result[k] = sum over t of parts[t][k], in the order of t.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

struct Reduction {
  const void* parts;  // [part_count, count], float, double for fp64
  void* result;       // [count]
  int count, part_count;
};

constexpr int kMaxReductions = 8;

struct Reductions {
  Reduction item[kMaxReductions];
  int count;
};

}  // namespace litehrnet
