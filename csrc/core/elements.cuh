// Elements of tensors in kernels: conversions, and vectors of up to 16 bytes.
#pragma once

#include <type_traits>

#include "core/dtype.h"
#include "core/platform.h"

namespace litehrnet {

__device__ __forceinline__ float to_acc(float value) { return value; }
__device__ __forceinline__ double to_acc(double value) { return value; }
__device__ __forceinline__ float to_acc(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_acc(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class scalar_t>
__device__ __forceinline__ scalar_t from_acc(acc_t<scalar_t> value) {
  return value;
}
template <>
__device__ __forceinline__ __half from_acc<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_acc<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <class scalar_t>
constexpr int kVecElems = kVecBytes / static_cast<int>(sizeof(scalar_t));

template <class scalar_t, int kElems>
struct alignas(sizeof(scalar_t) * kElems) Vec {
  static_assert(kElems > 0 && (kElems & (kElems - 1)) == 0, "a vector has a power of two of elements");
  scalar_t v[kElems];
};

template <int kElems, class scalar_t>
__device__ __forceinline__ Vec<scalar_t, kElems> load_vec(const scalar_t* pointer) {
  static_assert(sizeof(Vec<scalar_t, kElems>) <= kVecBytes, "at most 16 bytes in one load");
  return *reinterpret_cast<const Vec<scalar_t, kElems>*>(pointer);
}

template <int kElems, class scalar_t>
__device__ __forceinline__ void store_vec(scalar_t* pointer, const Vec<scalar_t, kElems>& value) {
  static_assert(sizeof(Vec<scalar_t, kElems>) <= kVecBytes, "at most 16 bytes in one store");
  *reinterpret_cast<Vec<scalar_t, kElems>*>(pointer) = value;
}

// Calls visit(std::integral_constant<int, vec>{}) for vec = 1, 2, 4, ... up to 16 bytes.
template <class scalar_t, class Visit>
__device__ __forceinline__ void visit_vec(int vec, Visit visit) {
  if constexpr (kVecElems<scalar_t> >= 8) {
    if (vec == 8) return visit(std::integral_constant<int, 8>{});
  }
  if constexpr (kVecElems<scalar_t> >= 4) {
    if (vec == 4) return visit(std::integral_constant<int, 4>{});
  }
  if (vec == 2) return visit(std::integral_constant<int, 2>{});
  visit(std::integral_constant<int, 1>{});
}

// Calls visit(scalar_t{}) with the element type that `dtype` names.
template <class Visit>
cudaError_t visit_dtype(DType dtype, Visit visit) {
  switch (dtype) {
    case DType::kFloat32: return visit(float{});
    case DType::kFloat16: return visit(__half{});
    case DType::kBFloat16: return visit(__nv_bfloat16{});
    case DType::kFloat64: return visit(double{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace litehrnet
