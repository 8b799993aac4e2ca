// Element types: the enumeration that launchers take, and what they are summed in.
#pragma once

#include "core/common.h"

namespace litehrnet {

enum class DType : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2, kFloat64 = 3 };

static inline std::size_t element_size(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

// Sums are held in float, in double for double.
template <class scalar_t>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <class scalar_t>
using acc_t = typename Accumulate<scalar_t>::type;

static inline std::size_t accumulate_size(DType dtype) { return dtype == DType::kFloat64 ? sizeof(double) : sizeof(float); }

}  // namespace litehrnet
