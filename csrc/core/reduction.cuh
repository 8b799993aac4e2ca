// The reductions of reduction.h as blocks of a kernel: of one of its own, or beside the blocks of another one.
//
// One thread a result, so neighbouring threads read neighbouring parts, kReductionFlight of them at a time. The order
// of the sum is that of the parts, whatever the size of the blocks.
#pragma once

#include "core/elements.cuh"
#include "core/reduction.h"

namespace litehrnet {

constexpr int kReductionResults = 64;  // a block; blocks of any size do
constexpr int kReductionFlight = 8;    // parts that a thread requests before it waits

// Blocks that the reductions take.
inline int reduction_blocks(const Reductions& reductions) {
  int blocks = 0;
  for (int i = 0; i < reductions.count; ++i) blocks += ceil_div(reductions.item[i].count, kReductionResults);
  return blocks;
}

// What block `block` of reduction_blocks() does. `reductions` lie in a kernel's parameters.
template <class acc>
__device__ __forceinline__ void reduce_parts(const Reductions& reductions, int block) {
  int item = 0;
#pragma unroll 1
  for (; item < reductions.count - 1; ++item) {
    const int blocks = ceil_div(reductions.item[item].count, kReductionResults);
    if (block < blocks) break;
    block -= blocks;
  }
  const Reduction& r = reductions.item[item];
  const int end = smaller(r.count, (block + 1) * kReductionResults);
#pragma unroll 1
  for (int k = block * kReductionResults + static_cast<int>(threadIdx.x); k < end; k += static_cast<int>(blockDim.x)) {
    const acc* parts = static_cast<const acc*>(r.parts) + k;
    acc sum = 0;
#pragma unroll 1
    for (int first = 0; first < r.part_count; first += kReductionFlight) {
      acc part[kReductionFlight];
#pragma unroll
      for (int u = 0; u < kReductionFlight; ++u)
        part[u] = first + u < r.part_count ? parts[static_cast<std::int64_t>(first + u) * r.count] : 0;
#pragma unroll
      for (int u = 0; u < kReductionFlight; ++u) sum += part[u];
    }
    static_cast<acc*>(r.result)[k] = sum;
  }
}

}  // namespace litehrnet
