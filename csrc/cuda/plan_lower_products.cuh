// What the fuse steps' launches have in common: a map cut into tiles of pixels, source planes, and the products with
// lower resolutions that a tile needs, each computed once per low position.
//
// Nearest upsampling gives the pixels of a tile a rectangle of low positions. Where sizes divide, tiles are whole
// windows, and no position is in two tiles; elsewhere neighbouring tiles compute some positions both.
#pragma once

#include "core/planes.cuh"
#include "core/resample.h"
#include "core/tile_product.cuh"
#include "params/plan_lower_products.h"

namespace litehrnet {

constexpr int kLowerFlight = 4;  // low positions that a thread requests before it waits
constexpr int kMaxColumns = static_cast<int>(kMaxSharedBytes / sizeof(float));  // one pixel's, staged

// Rectangles of `rows` x `columns` pixels, those at the edges smaller.
struct MapTiles {
  FastDivisor columns_divisor, wide_divisor, tiles_divisor, pixels_divisor;
  int rows, columns;
  int high, wide;  // tiles of a map
};

inline MapTiles make_map_tiles(int height, int width, int rows, int columns) {
  MapTiles t{};
  t.rows = rows;
  t.columns = columns;
  t.high = ceil_div(height, rows);
  t.wide = ceil_div(width, columns);
  t.columns_divisor = FastDivisor::of(columns);
  t.wide_divisor = FastDivisor::of(t.wide);
  t.tiles_divisor = FastDivisor::of(t.high * t.wide);
  t.pixels_divisor = FastDivisor::of(rows * columns);
  return t;
}

// `gated` and `own`: a plane whose entry is not negative has its factor there rather than in memory.
template <class scalar_t>
__device__ __forceinline__ SourcePlane<scalar_t> source_plane(const PlaneSources& sources, int number, int image,
                                                              const int* gated, const acc_t<scalar_t>* own) {
  SourcePlane<scalar_t> plane = source_plane<scalar_t>(sources, number, image);
  const int own_factor = gated == nullptr ? -1 : gated[number];
  if (own_factor >= 0) plane.factor = own[own_factor];
  return plane;
}

// How a tile's share of one lower map is laid out. Its positions are cells of a grid of rows x columns, enough for the
// tile that needs most.
struct LowerTiles {
  ProductShape shape;
  FastDivisor cells_divisor, columns_divisor;
  int rows, columns;
  int stride;                 // of a column of x
  int staged, sums;           // where x and the sums [rows of the group][cells] begin, in accumulators
  int row_index, column_index;  // where the tile's rows' and columns' cells begin, in ints
  int cells;
};

__host__ __device__ inline int first_position(int tile, int tile_size, int positions, int size) {
  return nearest_position(tile * tile_size, positions, size);
}

inline int most_positions(int tile_size, int positions, int size) {
  int most = 0;
  for (int begin = 0; begin < size; begin += tile_size) {
    const int last = nearest_position(smaller(begin + tile_size, size) - 1, positions, size);
    most = larger(most, last - nearest_position(begin, positions, size) + 1);
  }
  return most;
}

// Adds what it needs to `values` (accumulators) and `indices` (ints).
inline LowerTiles make_lower_tiles(const MapTiles& tiles, int height, int width, const PlaneSources& input,
                                   int group_rows, int threads, std::size_t& values, std::size_t& indices) {
  LowerTiles t{};
  t.rows = most_positions(tiles.rows, input.height, height);
  t.columns = most_positions(tiles.columns, input.width, width);
  t.cells = t.rows * t.columns;
  t.shape = make_product_shape(group_rows, input.count, t.cells, threads);
  t.stride = product_stride(t.cells, t.shape.pixels);
  t.cells_divisor = FastDivisor::of(t.stride);
  t.columns_divisor = FastDivisor::of(t.columns);
  t.staged = static_cast<int>(values);
  values += static_cast<std::size_t>(round_up(input.count * t.stride, 4));
  t.sums = static_cast<int>(values);
  values += static_cast<std::size_t>(round_up(group_rows * t.stride, 4));
  t.row_index = static_cast<int>(indices);
  indices += static_cast<std::size_t>(tiles.rows);
  t.column_index = static_cast<int>(indices);
  indices += static_cast<std::size_t>(tiles.columns);
  return t;
}

// Reads a tile's positions of all columns. A barrier must follow.
template <class scalar_t>
__device__ __forceinline__ void stage_lower(const LowerTiles& t, const MapTiles& tiles, const PlanLowerProduct& r,
                                            int height, int width, int image, int tile_row, int tile_column,
                                            const acc_t<scalar_t>* own, acc_t<scalar_t>* values, int* indices) {
  const int low_height = r.input.height, low_width = r.input.width, thread = thread_index();
  const int threads = static_cast<int>(blockDim.x);
  const int row0 = first_position(tile_row, tiles.rows, low_height, height);
  const int column0 = first_position(tile_column, tiles.columns, low_width, width);
  acc_t<scalar_t>* staged = values + t.staged;
#pragma unroll 1
  for (int first = thread; first < r.input.count * t.stride; first += kLowerFlight * threads) {
    SourcePlane<scalar_t> source[kLowerFlight];
    scalar_t pixel[kLowerFlight];
#pragma unroll
    for (int u = 0; u < kLowerFlight; ++u) {  // past the map and the tile's cells any pixel will do: no one reads it
      const int i = smaller(first + u * threads, r.input.count * t.stride - 1);
      const int plane = t.cells_divisor.divide(i), cell = i - plane * t.stride;
      const int row = t.columns_divisor.divide(cell);
      const int y = smaller(row0 + row, low_height - 1);
      const int x = smaller(column0 + cell - row * t.columns, low_width - 1);
      source[u] = source_plane<scalar_t>(r.input, plane, image, r.gated, own);
      pixel[u] = source[u].data[y * low_width + x];
    }
#pragma unroll
    for (int u = 0; u < kLowerFlight; ++u) {
      const int i = first + u * threads;
      if (i < r.input.count * t.stride) staged[i] = source[u].apply(pixel[u]);
    }
  }
  for (int i = thread; i < tiles.rows; i += threads) {
    const int y = smaller(tile_row * tiles.rows + i, height - 1);
    indices[t.row_index + i] = (nearest_position(y, low_height, height) - row0) * t.columns;
  }
  for (int i = thread; i < tiles.columns; i += threads) {
    const int x = smaller(tile_column * tiles.columns + i, width - 1);
    indices[t.column_index + i] = nearest_position(x, low_width, width) - column0;
  }
}

// The sums of `rows` rows of the matrix from `row0` on, a multiple of kPanelRows, once staged. A barrier must follow.
template <class scalar_t>
__device__ __forceinline__ void multiply_lower(const LowerTiles& t, const PlanLowerProduct& r, int row0, int rows,
                                               acc_t<scalar_t>* values) {
  const auto* panels = static_cast<const scalar_t*>(r.panels) + static_cast<std::int64_t>(row0) * r.input.count;
  acc_t<scalar_t>* sums = values + t.sums;
  visit_product(t.shape, [&](auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    tile_product<scalar_t, kPixels>(t.shape, panels, rows, r.input.count, values + t.staged, t.stride,
                                    [&](int row, int cell, const acc_t<scalar_t>(&sum)[kPixels]) {
#pragma unroll
                                      for (int e = 0; e < kPixels; ++e) sums[row * t.stride + cell + e] = sum[e];
                                    });
  });
}

// What all lower products add to pixel (y, x) of the tile in row `row` of the group.
template <class acc>
__device__ __forceinline__ acc lower_sum(const LowerTiles* lower, int count, const acc* values, const int* indices,
                                         int row, int y, int x) {
  acc sum = 0;
#pragma unroll
  for (int l = 0; l < kMaxLowerProducts; ++l) {
    if (l >= count) break;
    const LowerTiles& t = lower[l];
    sum += values[t.sums + row * t.stride + indices[t.row_index + y] + indices[t.column_index + x]];
  }
  return sum;
}

}  // namespace litehrnet
