// A matrix times pixels, y[row][pixel] = bias[row] + sum_k w[row][k] x[k][pixel]: all 1x1 convolutions.
//
// Mapping  block = kBlock<A> pixels, three vectors, times one panel of four rows, two where there are registers for 24
//          sums. Sums stay in registers for all columns; for every column there are three loads of pixels and one
//          broadcast a row. Blocks of pixels are outside and panels inside: a block's pixels stay in L1, the matrix
//          streams. The last pixels make a narrower block, with part of a vector at its end.
// Sums     column after column, in one chain: every sum is the same wherever its pixel is in a block.
#pragma once

#include "cpu/kernels/source_planes.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

constexpr int kPanelRows = 4;
constexpr int kBlockVectors = 3;
template <class A>
constexpr int kBlock = kBlockVectors * kLanes<A>;
constexpr int kPanelsAtOnce = kManyRegisters ? 2 : 1;

// Where x[k] is: planes anywhere, or at the same distance from one another.
template <class T>
struct ScatteredColumns {
  const T* const* planes;
  LITEHRNET_INLINE const T* at(int column) const { return planes[column]; }
};
template <class T>
struct RegularColumns {
  const T* first;
  std::int64_t pitch;
  LITEHRNET_INLINE const T* at(int column) const { return first + column * pitch; }
};

// Where w[row][k] is: in panels, [ceil(rows / 4)][columns][4], or row by row. weight(i) of what from<n>(row) returns is
// that of row `row` + i, i < n, in column 0, then in the next one; rows past the last one have any weights.
template <class A>
struct Panels {
  const A* weights;
  int columns, rows;
  struct Cursor {
    const A* at;
    std::int64_t panel;
    LITEHRNET_INLINE A weight(int i) const { return at[i / kPanelRows * panel + i % kPanelRows]; }
    LITEHRNET_INLINE void next() { at += kPanelRows; }
  };
  template <int kRows>
  LITEHRNET_INLINE Cursor from(int row) const {
    const std::int64_t panel = static_cast<std::int64_t>(columns) * kPanelRows;
    return {weights + row / kPanelRows * panel, panel};
  }
};
template <class A>
struct Rows {
  const A* weights;
  int columns, rows;
  std::int64_t pitch;
  template <int kRows>
  struct Cursor {
    const A* at[kRows];
    std::int64_t column;
    LITEHRNET_INLINE A weight(int i) const { return at[i][column]; }
    LITEHRNET_INLINE void next() { ++column; }
  };
  template <int kRows>
  LITEHRNET_INLINE Cursor<kRows> from(int row) const {
    Cursor<kRows> result{};
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) result.at[i] = weights + least(row + i, rows - 1) * pitch;
    return result;
  }
};

// Sums of kPanels panels times one block of pixels, [kPanels * 4][kBlock]. A function of its own: with an epilogue
// beside it, compilers keep that one's numbers in registers, and sums in memory.
template <int kPanels, int kVectors, bool kWhole, class W, class A, class X>
__attribute__((noinline)) void multiply_block(const W matrix, const A* bias, const X x, int row, int pixel, int last,
                                              A* sums) {
  constexpr int rows = kPanels * kPanelRows, lanes = kLanes<A>;
  Vector<A> sum[rows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    const Vector<A> start = bias == nullptr ? zero<A>() : broadcast(bias[least(row + i, matrix.rows - 1)]);
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[i][v] = start;
  }
  auto weights = matrix.template from<rows>(row);
  for (int column = 0; column < matrix.columns; ++column, weights.next()) {
    const auto* from = x.at(column) + pixel;
    Vector<A> in[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      in[v] = kWhole || v + 1 < kVectors ? load(from + v * lanes) : load(from + v * lanes, last);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vector<A> weight = broadcast(weights.weight(i));
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(weight, in[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) store(sums + i * kBlock<A> + v * lanes, sum[i][v]);
}

// For pixels first to end - 1. For every row and block calls epilogue(row), and what that returns with (pixel, sums,
// count) for every vector, `count` being the number of pixels that count.
template <class W, class A, class X, class Epilogue>
__attribute__((noinline)) void matrix_product(const W& matrix, const A* bias, const X& x, int first, int end,
                                              const Epilogue& epilogue) {
  constexpr int lanes = kLanes<A>, most_rows = kPanelsAtOnce * kPanelRows;
  alignas(64) A sums[most_rows * kBlock<A>];
  const int rows = matrix.rows;
  int pixel = first;
  for (; pixel + kBlock<A> <= end; pixel += kBlock<A>) {
    for (int row = 0; row < rows;) {
      const bool wide = kPanelsAtOnce > 1 && row + kPanelRows < rows;
      if (wide)
        multiply_block<kPanelsAtOnce, kBlockVectors, true>(matrix, bias, x, row, pixel, lanes, sums);
      else
        multiply_block<1, kBlockVectors, true>(matrix, bias, x, row, pixel, lanes, sums);
      const int stop = least(row + (wide ? most_rows : kPanelRows), rows);
      for (const A* sum = sums; row < stop; ++row, sum += kBlock<A>) {
        const auto take = epilogue(row);
#pragma GCC unroll 3
        for (int v = 0; v < kBlockVectors; ++v) take(pixel + v * lanes, load(sum + v * lanes), lanes);
      }
    }
  }
  const int rest = end - pixel;
  if (rest == 0) return;
  const int vectors = divide_up(rest, lanes), last = rest - (vectors - 1) * lanes;
  for (int row = 0; row < rows;) {
    if (vectors == 3) multiply_block<1, 3, false>(matrix, bias, x, row, pixel, last, sums);
    if (vectors == 2) multiply_block<1, 2, false>(matrix, bias, x, row, pixel, last, sums);
    if (vectors == 1) multiply_block<1, 1, false>(matrix, bias, x, row, pixel, last, sums);
    const int stop = least(row + kPanelRows, rows);
    for (const A* sum = sums; row < stop; ++row, sum += kBlock<A>) {
      const auto take = epilogue(row);
      for (int v = 0; v < vectors; ++v)
        take(pixel + v * lanes, load(sum + v * lanes), v + 1 < vectors ? lanes : last);
    }
  }
}

// Epilogues: y or relu(y) to planes anywhere, or at the same distance from one another.
template <bool kRelu, class T>
struct StoreRow {
  T* to;
  LITEHRNET_INLINE void operator()(int pixel, Vector<acc_t<T>> v, int count) const {
    store(to + pixel, kRelu ? relu(v) : v, count);
  }
};
template <bool kRelu, class T>
struct StoreScattered {
  T* const* planes;
  int first;  // pixel
  LITEHRNET_INLINE StoreRow<kRelu, T> operator()(int row) const { return {planes[row] + first}; }
};
template <bool kRelu, class T>
struct StoreRegular {
  T* to;
  std::int64_t stride;
  LITEHRNET_INLINE StoreRow<kRelu, T> operator()(int row) const { return {to + row * stride}; }
};

// Weights of the element type in the accumulation type: where they are, or converted into `room`.
LITEHRNET_INLINE const float* as_numbers(const float* weights, std::int64_t, float*) { return weights; }
LITEHRNET_INLINE const double* as_numbers(const double* weights, std::int64_t, double*) { return weights; }
template <class T>
const float* as_numbers(const T* weights, std::int64_t count, float* room) {
  std::int64_t i = 0;
  for (; i + kLanes<float> <= count; i += kLanes<float>) store(room + i, load(weights + i));
  for (; i < count; ++i) room[i] = as_number(weights[i]);
  return room;
}
// Elements of that room.
template <class T>
LITEHRNET_INLINE std::int64_t room_for_numbers(std::int64_t count) {
  return sizeof(T) == sizeof(acc_t<T>) ? 0 : count;
}
LITEHRNET_INLINE std::int64_t panel_elements(int rows, int columns) {
  return static_cast<std::int64_t>(divide_up(rows, kPanelRows)) * kPanelRows * columns;
}

// Pixels first to end - 1 of planes, for products: where they are, or a copy where something is pending. `plane(k)` is
// number k; `planes` gets pointers such that planes[k] + pixel is that pixel; copies have room for `pitch` pixels each.
template <class T, class Plane>
void gather_columns(int columns, const Plane& plane, int first, int end, const acc_t<T>** planes, acc_t<T>* copies,
                    int pitch) {
  using A = acc_t<T>;
  for (int k = 0; k < columns; ++k) {
    const Pixels<T> source = plane(k);
    if constexpr (sizeof(T) == sizeof(A)) {
      if (!source.pending) {
        planes[k] = source.data;
        continue;
      }
    }
    A* copy = copies + static_cast<std::int64_t>(k) * pitch;
    for (int pixel = first; pixel < end; pixel += kLanes<A>)
      store(copy + (pixel - first), source.get(pixel, least(kLanes<A>, end - pixel)));
    planes[k] = copy - first;
  }
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
