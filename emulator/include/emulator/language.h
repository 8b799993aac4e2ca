// Qualifiers, launch dimensions, and the built-in variables of CUDA's language.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

// Keeps a function of the emulator out of the memory checks, which are for the kernels alone.
#define EMULATOR_UNCHECKED __attribute__((no_sanitize("thread,alignment,bounds")))

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))

// All threads of a block run on one host thread, and blocks run one after the other: a thread-local variable is shared
// by exactly the threads of a block, and the runtime finds all of them in one range of addresses.
#define __shared__ static thread_local

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

namespace emulator {

struct Coordinates {
  uint3 thread_index;
  uint3 block_index;
  dim3 block_size;
  dim3 grid_size;
};

extern const Coordinates* running;  // of the thread that runs now; null outside kernels

// By value: the members are then read here, unchecked, and not by the kernel.
EMULATOR_UNCHECKED inline uint3 thread_index() { return running->thread_index; }
EMULATOR_UNCHECKED inline uint3 block_index() { return running->block_index; }
EMULATOR_UNCHECKED inline dim3 block_size() { return running->block_size; }
EMULATOR_UNCHECKED inline dim3 grid_size() { return running->grid_size; }

void* dynamic_shared_memory();  // of the running block, 16-byte aligned

// A place in a source file. A default argument `Location at = {__builtin_FILE(), __builtin_LINE()}` is the caller's.
struct Location {
  const char* file;
  int line;
};

// Keeps an argument from taking part in deduction, so that it converts as in a plain function call.
template <class T>
struct Identity {
  using type = T;
};
template <class T>
using identity_t = typename Identity<T>::type;

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast: expected types of the same size");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace emulator

#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index())
#define blockDim (::emulator::block_size())
#define gridDim (::emulator::grid_size())
constexpr int warpSize = 32;
