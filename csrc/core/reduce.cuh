// Sums and products inside a warp, in an order that depends on nothing but the geometry: two runs agree bit by bit.
#pragma once

#include "core/elements.cuh"

namespace litehrnet {

constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kVectorPad =
    4;  // vectors in shared memory that rows are multiplied with are padded to a multiple of this

// The sum over each aligned group of `lanes` lanes (a power of two, at most 32), in every lane of it. All lanes of the
// warp take part.
template <class value_t>
__device__ __forceinline__ value_t lanes_sum(value_t value, int lanes) {
  for (int offset = lanes >> 1; offset > 0; offset >>= 1) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

// The same with the number of lanes known to the compiler.
template <int kLanes, class value_t>
__device__ __forceinline__ value_t lanes_sum(value_t value) {
  static_assert(kLanes >= 1 && kLanes <= kWarpSize && (kLanes & (kLanes - 1)) == 0, "lanes of one warp");
#pragma unroll
  for (int offset = kLanes >> 1; offset > 0; offset >>= 1) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

// A row of a matrix spread over kLanes lanes, kSteps pieces each, so that it can be requested long before it is used.
// Piece t of lane l holds kElems columns from first + kElems (l + kLanes t) on: 16 bytes of fp32 and fp64, 8 bytes of
// 16-bit types, as their rows (60, 140 or 300 channels) are multiples of 4 but not of 8. Columns past the end are zero.
template <class scalar_t, int kLanes, int kSteps>
struct MatrixRow {
  static constexpr int kElems = sizeof(scalar_t) == 8 ? 2 : 4;
  static constexpr int kSpan = kElems * kLanes * kSteps;  // columns held at a time

  Vec<scalar_t, kElems> piece[kSteps];

  // `wide`: rows start at multiples of kElems elements, so that pieces are one load each.
  __device__ __forceinline__ void load(const scalar_t* row, int first, int columns, bool wide, int lane) {
#pragma unroll
    for (int t = 0; t < kSteps; ++t) {
      const int column = first + kElems * (lane + kLanes * t);
      if (wide && column < columns) {
        piece[t] = load_vec<kElems>(row + column);
      } else {
#pragma unroll
        for (int e = 0; e < kElems; ++e) piece[t].v[e] = column + e < columns ? row[column + e] : from_acc<scalar_t>(0);
      }
    }
  }

  // This lane's share of the product with `vector` in shared memory, which is zero from `columns` to the next multiple
  // of kVectorPad.
  __device__ __forceinline__ acc_t<scalar_t> dot(const acc_t<scalar_t>* vector, int first, int columns,
                                                 int lane) const {
    acc_t<scalar_t> sum = 0;
#pragma unroll
    for (int t = 0; t < kSteps; ++t) {
      const int column = first + kElems * (lane + kLanes * t);
      if (column < columns) {
        const auto values = load_vec<kElems>(vector + column);
#pragma unroll
        for (int e = 0; e < kElems; ++e) sum += to_acc(piece[t].v[e]) * values.v[e];
      }
    }
    return sum;
  }
};

}  // namespace litehrnet
