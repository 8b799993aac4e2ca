// Integer arithmetic and limits that launchers and kernels share.
#pragma once

#include <cstddef>
#include <cstdint>

// What kernels and the host both call. Headers that use these instead of CUDA's words can be read without CUDA.
#ifdef __CUDACC__
#define LITEHRNET_HOST_DEVICE __host__ __device__
#else
#define LITEHRNET_HOST_DEVICE
#endif

namespace litehrnet {

constexpr int kMaxBranches = 4;  // the published networks have up to four resolutions
constexpr int kWarpSize = 32;
constexpr int kVecBytes = 16;  // the widest load and store of all architectures up to 9.0
constexpr std::int64_t kMaxGrid = 0x7fffffff;       // blocks along x that every CUDA device accepts
constexpr std::size_t kMaxSharedBytes = 48 * 1024;  // dynamic shared memory a block gets without opting in

template <class T>
LITEHRNET_HOST_DEVICE constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

template <class T>
LITEHRNET_HOST_DEVICE constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}

template <class T>
LITEHRNET_HOST_DEVICE constexpr T smaller(T a, T b) {
  return a < b ? a : b;
}

template <class T>
LITEHRNET_HOST_DEVICE constexpr T larger(T a, T b) {
  return a > b ? a : b;
}

// The smallest k with 2^k >= value.
LITEHRNET_HOST_DEVICE constexpr int ceil_log2(int value) {
  int k = 0;
  while (k < 30 && (1 << k) < value) ++k;
  return k;
}

// Division by a number known at launch, in a multiply-high, an add and a shift; exact for 0 <= n < 2^31, 1 <= d < 2^31.
// floor(n / d) = (n + floor(n m / 2^32)) >> s with s = ceil(log2 d), m = floor(2^32 (2^s - d) / d) + 1
// (Granlund and Montgomery, "Division by invariant integers using multiplication", 1994).
struct FastDivisor {
  std::uint32_t magic = 1;
  int shift = 0;

  static FastDivisor of(int divisor) {
    FastDivisor result;
    while (result.shift < 31 && (std::uint32_t{1} << result.shift) < static_cast<std::uint32_t>(divisor))
      ++result.shift;
    const std::uint64_t gap = (std::uint64_t{1} << result.shift) - static_cast<std::uint64_t>(divisor);
    result.magic = static_cast<std::uint32_t>((gap << 32) / static_cast<std::uint64_t>(divisor) + 1);
    return result;
  }

  LITEHRNET_HOST_DEVICE int divide(int n) const {
    const auto unsigned_n = static_cast<std::uint32_t>(n);
    const auto high = static_cast<std::uint32_t>((static_cast<std::uint64_t>(unsigned_n) * magic) >> 32);
    return static_cast<int>((high + unsigned_n) >> shift);
  }
};

// Whether vectors of `bytes` bytes may be read from `pointer` at every multiple of the strides (in elements).
inline bool is_aligned(const void* pointer, std::size_t element_size, std::int64_t image_stride,
                       std::int64_t plane_stride, int bytes) {
  const auto size = static_cast<std::int64_t>(element_size);
  return reinterpret_cast<std::uintptr_t>(pointer) % static_cast<std::uintptr_t>(bytes) == 0 &&
         image_stride * size % bytes == 0 && plane_stride * size % bytes == 0;
}

}  // namespace litehrnet
