// What bodies of kernels do differently where one kernel has many of them in a loop: LITEHRNET_TILE_LOOP is defined
// before any header in the source file of such a kernel. It is about registers alone, results are the same.
//
// - A register that is not written on every path before it is read keeps its place from one round of the loop to the
//   next, all through the other bodies. Such variables get a value first, where kTileLoop says so.
// - All that depends on the thread's index alone would be computed once, before the loop, for all bodies, and kept in
//   registers. thread_index() makes the compiler believe that the index may change.
#pragma once

#include "core/platform.h"

namespace litehrnet {

#if defined(LITEHRNET_TILE_LOOP) && defined(__CUDA_ARCH__)

constexpr bool kTileLoop = true;

__device__ __forceinline__ int thread_index() {
  int index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  __builtin_assume(index >= 0 && index < 1024);
  return index;
}

#else

constexpr bool kTileLoop = false;

__device__ __forceinline__ int thread_index() { return static_cast<int>(threadIdx.x); }

#endif

}  // namespace litehrnet
