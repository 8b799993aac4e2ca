// A matrix times the pixels of a tile, y[row][pixel] = sum_k w[row][k] x[k][pixel], by all threads of a block: what the
// 1x1 convolutions of a plan's steps have in common.
//
// Layout   the matrix in *panels* of kPanelRows rows, [ceil(rows / kPanelRows)][columns][kPanelRows], element type,
//          16-byte aligned, rows past the end zero: one load gives a thread a column of its rows. The host packs it
//          once: W padded with zero rows -> view(panels, kPanelRows, columns) -> permute(0, 2, 1).contiguous().
//          x in shared memory, [columns][stride], 16-byte aligned, as accumulators or elements; stride from
//          product_stride(). Pixels past the tile's, up to a multiple of the shape's, are read: give them a value.
// Mapping  item = one panel x kPixels neighbouring pixels, kPanelRows x kPixels accumulators in the registers of each
//          of its lanes, a power of two of which share the columns where items are fewer than threads: lane l takes
//          columns l, l + lanes, ..., so that loads of the matrix lie side by side, and sums meet in a fixed tree.
//          Neighbouring items have the same panel, so that a warp's loads fall together.
// Traffic  the matrix once for every block, from L1 or L2; x from shared memory, kPanelRows products a load.
#pragma once

#include "core/reduce.cuh"
#include "core/tile_loop.cuh"

namespace litehrnet {

constexpr int kPanelRows = 4;
constexpr int kMaxProductPixels = 4;
constexpr int kProductFlight = 4;  // columns whose weights a lane requests before it waits

// How a block computes one product. From sizes alone; blocks whose part of the matrix has fewer rows may share it.
struct ProductShape {
  FastDivisor groups_divisor;  // groups of kPixels pixels
  int pixels;                  // of an item, kPixels: 1, 2 or 4
  int log_lanes;               // of an item
  int groups;
};

// Elements from one column of x to the next: an odd number of an item's vectors, so that lanes that read neighbouring
// columns are in different banks. `item_pixels` is the shape's, or kMaxProductPixels where x is read in several shapes.
__host__ __device__ constexpr int product_stride(int pixels, int item_pixels) {
  return (ceil_div(pixels, item_pixels) | 1) * item_pixels;
}

// For tiles of `pixels` pixels and blocks of `threads` threads, a multiple of kWarpSize. Items are as large as leaves
// all threads something to do, then columns are shared among lanes, at least four each.
inline ProductShape make_product_shape(int rows, int columns, int pixels, int threads) {
  ProductShape s{};
  const int panels = ceil_div(rows, kPanelRows);
  s.pixels = kMaxProductPixels;
  while (s.pixels > 1 && panels * ceil_div(pixels, s.pixels) * larger(smaller(columns / 8, 8), 1) < threads)
    s.pixels /= 2;
  while (s.pixels > 1 && s.pixels / 2 >= pixels) s.pixels /= 2;
  s.groups = ceil_div(pixels, s.pixels);
  s.groups_divisor = FastDivisor::of(s.groups);
  while (s.log_lanes < 5 && (panels * s.groups << (s.log_lanes + 1)) <= threads && columns >> (s.log_lanes + 1) >= 4)
    ++s.log_lanes;
  return s;
}

namespace product {

// Elements, as accumulators, in loads of up to 16 bytes.
template <int kCount, class value_t>
__device__ __forceinline__ void load(const value_t* from, value_t (&to)[kCount]) {
  constexpr int kStep = smaller(kCount, kVecElems<value_t>);
#pragma unroll
  for (int i = 0; i < kCount; i += kStep) {
    const auto piece = load_vec<kStep>(from + i);
#pragma unroll
    for (int e = 0; e < kStep; ++e) to[i + e] = piece.v[e];
  }
}

}  // namespace product

// Calls epilogue(row, pixel, sums) once for every row and every kPixels pixels from `pixel` on, whose sums it gets as
// `const acc_t<scalar_t> (&sums)[kPixels]`; among the pixels are those past the tile's up to a multiple of kPixels.
// All threads of the block take part. x must be complete (a barrier before); it is not written to.
template <class scalar_t, int kPixels, class in_t, class Epilogue>
__device__ __forceinline__ void tile_product(const ProductShape& s, const scalar_t* panels, int rows, int columns,
                                             const in_t* x, int stride, Epilogue epilogue) {
  using acc = acc_t<scalar_t>;
  const int lanes = 1 << s.log_lanes, lane = thread_index() & (lanes - 1);
  const int own = thread_index() >> s.log_lanes, step = static_cast<int>(blockDim.x) >> s.log_lanes;
  const int items = ceil_div(rows, kPanelRows) * s.groups;
#pragma unroll 1
  for (int first = 0; first < items; first += step) {  // the same for all threads: warps stay together for the sums
    const int item = smaller(first + own, items - 1), panel = s.groups_divisor.divide(item);
    const bool live = first + own < items;
    const int pixel = (item - panel * s.groups) * kPixels;
    const scalar_t* w = panels + static_cast<std::int64_t>(panel) * columns * kPanelRows;
    acc sums[kPanelRows][kPixels] = {};
#pragma unroll 1
    for (int k0 = lane; k0 < columns; k0 += kProductFlight << s.log_lanes) {
      scalar_t weights[kProductFlight][kPanelRows];
#pragma unroll
      for (int u = 0; u < kProductFlight; ++u) {
        const int k = k0 + (u << s.log_lanes);
        const int from = kTileLoop ? smaller(k, columns - 1) : k;
        if (kTileLoop || k < columns) product::load<kPanelRows>(w + from * kPanelRows, weights[u]);
      }
#pragma unroll
      for (int u = 0; u < kProductFlight; ++u) {
        const int k = k0 + (u << s.log_lanes);
        if (k < columns) {
          in_t values[kPixels];
          product::load<kPixels>(x + k * stride + pixel, values);
#pragma unroll
          for (int r = 0; r < kPanelRows; ++r) {
#pragma unroll
            for (int e = 0; e < kPixels; ++e) sums[r][e] += to_acc(weights[u][r]) * to_acc(values[e]);
          }
        }
      }
    }
    if (s.log_lanes > 0) {
#pragma unroll
      for (int r = 0; r < kPanelRows; ++r) {
#pragma unroll
        for (int e = 0; e < kPixels; ++e) sums[r][e] = lanes_sum(sums[r][e], lanes);
      }
    }
#pragma unroll
    for (int r = 0; r < kPanelRows; ++r) {  // lanes of an item take turns
      const int row = panel * kPanelRows + r;
      if (live && row < rows && (r & (lanes - 1)) == lane) epilogue(row, pixel, sums[r]);
    }
  }
}

// Calls visit(std::integral_constant<int, kPixels>{}) with the shape's pixels.
template <class Visit>
__device__ __forceinline__ void visit_product(const ProductShape& s, Visit visit) {
  if (s.pixels == 4) return visit(std::integral_constant<int, 4>{});
  if (s.pixels == 2) return visit(std::integral_constant<int, 2>{});
  visit(std::integral_constant<int, 1>{});
}

}  // namespace litehrnet
