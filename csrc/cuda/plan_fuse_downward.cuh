// FuseDownward: y = relu(W dw(x) + b + kept + sum_l up(W_l o_l)) and, for chains that go on, relu(W dw(x) + b)
//
// dw: depthwise 3x3 with stride 2, padded with zeros; x: the planes of all chains of a product, with what is pending on
// them; up: nearest upsampling with PyTorch's rounding. Accumulation in fp32 (fp64 for fp64), rounded when stored.
//
// Layout   source planes of dense rows, anywhere; matrices in panels (core/tile_product.cuh); the planes of an output
//          follow one another.
// Mapping  block = a tile of output pixels x a group of rows of one product of one image. It filters all columns of its
//          pixels straight from memory into shared memory, stages the low positions that the pixels read, multiplies
//          those (the total only), then multiplies the filtered pixels, and stores their sums. Tiles are whole windows
//          of the lowest resolution, or kTile on a side, larger ones as soon as kMinBlocks blocks remain; rows are cut
//          into groups until there are as many.
// Traffic  outputs are written once and kept is read once. Every group of rows reads its tile's source pixels anew,
//          from L2, the nine of a filter from L1; every block its rows of the matrices.
// Sums     in a fixed order: bitwise reproducible, no atomics.
// Limits   all columns of a tile of one pixel, low positions included, within 48 KB of shared memory: about 3,000
//          columns in fp32; below 2^31 blocks.
#pragma once

#include "cuda/plan_fuse_downward.h"
#include "cuda/plan_lower_products.cuh"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_fuse_downward {

constexpr int kMinBlocks = 120;  // about the number of multiprocessors
constexpr int kTile = 4;         // pixels on a side, at least, where the map has them
constexpr int kMaxTile = 8;

struct Product {
  ProductShape shape;
  FastDivisor stride_divisor;
  int stride;       // of a column of x
  int staged;       // where x begins, in accumulators
  int first_group;  // groups of rows, numbered over all products
};

struct Phase {
  PlanFuseDownwardParams params;
  MapTiles tiles;
  Product product[kMaxStackedProducts];
  LowerTiles lower[kMaxLowerProducts];
  FastDivisor groups_divisor;
  int height, width;  // of the outputs
  int group_rows, groups, vec;
  int indices;  // where those begin in shared memory, in bytes
};
static_assert(sizeof(Phase) <= 4096, "the most that a kernel's parameters take");

// The filtered pixels of a tile, all columns of a product; zero outside the map.
template <class scalar_t, int kThreads>
__device__ __forceinline__ void stage_filtered(const Phase& p, const Product& s, const PlanStackedProduct& r, int image,
                                               int row0, int column0, acc_t<scalar_t>* staged) {
  using acc = acc_t<scalar_t>;
  const int height = r.input.height, width = r.input.width, pixels = p.tiles.rows * p.tiles.columns;
  const int values = r.input.count * s.stride;
  constexpr int kFlight = sizeof(scalar_t) <= 4 ? 2 : 1;
#pragma unroll 1
  for (int first = thread_index(); first < values; first += kFlight * kThreads) {
    SourcePlane<scalar_t> source[kFlight];
    scalar_t in[kFlight][9];
    bool live[kFlight];
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int i = smaller(first + u * kThreads, values - 1);
      const int plane = s.stride_divisor.divide(i), pixel = i - plane * s.stride;
      const int tile_y = p.tiles.columns_divisor.divide(pixel);
      const int y = row0 + tile_y, x = column0 + pixel - tile_y * p.tiles.columns;
      live[u] = pixel < pixels && y < p.height && x < p.width;
      source[u] = source_plane<scalar_t>(r.input, plane, image, nullptr, static_cast<const acc*>(nullptr));
#pragma unroll
      for (int k = 0; k < 9; ++k) {
        const int from_y = 2 * y - 1 + k / 3, from_x = 2 * x - 1 + k % 3;
        const bool inside = live[u] && from_y >= 0 && from_y < height && from_x >= 0 && from_x < width;
        in[u][k] = inside ? source[u].data[from_y * width + from_x] : from_acc<scalar_t>(0);
      }
    }
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int i = first + u * kThreads;
      if (i >= values) continue;
      const int plane = s.stride_divisor.divide(i);
      const scalar_t* weight = static_cast<const scalar_t*>(r.filter) + plane * 9;
      acc sum = static_cast<const acc*>(r.filter_bias)[plane];
#pragma unroll
      for (int k = 0; k < 9; ++k) sum += to_acc(weight[k]) * source[u].apply(in[u][k]);
      staged[i] = live[u] ? sum : 0;
    }
  }
}

template <class scalar_t, int kPixels>
__device__ __forceinline__ void multiply_and_store(const Phase& p, const Product& s, const PlanStackedProduct& r,
                                                   bool total, int image, int first_row, int rows, int row0,
                                                   int column0, const acc_t<scalar_t>* values, const int* indices) {
  using acc = acc_t<scalar_t>;
  const auto* panels = static_cast<const scalar_t*>(r.panels) + static_cast<std::int64_t>(first_row) * r.input.count;
  const bool vectors = kPixels <= p.vec;
  tile_product<scalar_t, kPixels>(
      s.shape, panels, rows, r.input.count, values + s.staged, s.stride,
      [&](int row_in_group, int pixel, const acc(&sums)[kPixels]) {
        const int row = first_row + row_in_group;
        const acc bias = static_cast<const acc*>(r.bias)[row];
        scalar_t* out = static_cast<scalar_t*>(r.output.data) + image * r.output.image_stride +
                        static_cast<std::int64_t>(row) * r.output.plane_stride;
        SourcePlane<scalar_t> kept{};
        if (total)
          kept = source_plane<scalar_t>(p.params.kept, row, image, nullptr, static_cast<const acc*>(nullptr));
        const auto finish = [&](acc sum, int tile_y, int tile_x, scalar_t kept_pixel) {
          sum += bias;
          if (total) {
            sum += kept.apply(kept_pixel);
            sum += lower_sum(p.lower, p.params.lowers, values, indices, row_in_group, tile_y, tile_x);
          }
          return from_acc<scalar_t>(sum < 0 ? 0 : sum);
        };
        if (vectors) {
          const int tile_y = p.tiles.columns_divisor.divide(pixel), tile_x = pixel - tile_y * p.tiles.columns;
          const int y = row0 + tile_y, x = column0 + tile_x;
          if (tile_y >= p.tiles.rows || y >= p.height || x >= p.width) return;
          constexpr int kVec = smaller(kPixels, kVecElems<scalar_t>);
#pragma unroll
          for (int first = 0; first < kPixels; first += kVec) {
            Vec<scalar_t, kVec> result{};
            if (total) result = load_vec<kVec>(kept.data + y * p.width + x + first);
#pragma unroll
            for (int e = 0; e < kVec; ++e)
              result.v[e] = finish(sums[first + e], tile_y, tile_x + first + e, result.v[e]);
            store_vec(out + y * p.width + x + first, result);
          }
        } else {
#pragma unroll
          for (int e = 0; e < kPixels; ++e) {
            const int tile_y = p.tiles.columns_divisor.divide(pixel + e);
            const int tile_x = pixel + e - tile_y * p.tiles.columns, y = row0 + tile_y, x = column0 + tile_x;
            if (tile_y >= p.tiles.rows || y >= p.height || x >= p.width) continue;
            const scalar_t kept_pixel = total ? kept.data[y * p.width + x] : from_acc<scalar_t>(0);
            out[y * p.width + x] = finish(sums[e], tile_y, tile_x, kept_pixel);
          }
        }
      });
}

// One block's work. `shared` holds staged values and sums, then indices. A loop over blocks needs a barrier between two
// of them.
template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  const PlanFuseDownwardParams& r = p.params;
  const int number = p.groups_divisor.divide(block);
  int group = block - number * p.groups;
  const int image = p.tiles.tiles_divisor.divide(number), tile = number - image * p.tiles.high * p.tiles.wide;
  const int tile_row = p.tiles.wide_divisor.divide(tile), tile_column = tile - tile_row * p.tiles.wide;
  int product = 0;
#pragma unroll
  for (int i = 1; i < kMaxStackedProducts; ++i) product += i < r.products && group >= p.product[i].first_group;
  const Product& s = p.product[product];
  const PlanStackedProduct& own = r.product[product];
  const int first_row = (group - s.first_group) * p.group_rows;
  const int rows = smaller(p.group_rows, own.output.count - first_row);
  const int row0 = tile_row * p.tiles.rows, column0 = tile_column * p.tiles.columns;
  auto* values = reinterpret_cast<acc_t<scalar_t>*>(shared);
  int* indices = reinterpret_cast<int*>(shared + p.indices);
  const bool total = product == 0;

  stage_filtered<scalar_t, kThreads>(p, s, own, image, row0, column0, values + s.staged);
  if (total && r.lowers > 0) {
#pragma unroll 1
    for (int l = 0; l < r.lowers; ++l) {
      stage_lower<scalar_t>(p.lower[l], p.tiles, r.lower[l], p.height, p.width, image, tile_row, tile_column,
                            static_cast<const acc_t<scalar_t>*>(nullptr), values, indices);
    }
    __syncthreads();  // low positions are staged
#pragma unroll 1
    for (int l = 0; l < r.lowers; ++l) multiply_lower<scalar_t>(p.lower[l], r.lower[l], first_row, rows, values);
  }
  __syncthreads();  // filtered pixels and the products of low positions are complete
  visit_product(s.shape, [&](auto pixels) {
    multiply_and_store<scalar_t, decltype(pixels)::value>(p, s, own, total, image, first_row, rows, row0, column0,
                                                          values, indices);
  });
}


// Lays out a block's shared memory for tiles of rows x columns pixels; returns its bytes.
inline std::size_t lay_out(Phase& p, int rows, int columns, int group_rows, DType dtype, int threads) {
  const PlanFuseDownwardParams& r = p.params;
  p.tiles = make_map_tiles(p.height, p.width, rows, columns);
  p.group_rows = group_rows;
  p.groups = 0;
  std::size_t lower_values = 0, indices = 0;
  for (int l = 0; l < r.lowers; ++l)
    p.lower[l] =
        make_lower_tiles(p.tiles, p.height, p.width, r.lower[l].input, group_rows, threads, lower_values, indices);
  std::size_t values = 0;
  for (int i = 0; i < r.products; ++i) {
    Product& s = p.product[i];
    const int count = r.product[i].input.count;
    s.shape = make_product_shape(smaller(group_rows, r.product[i].output.count), count, rows * columns, threads);
    s.stride = product_stride(rows * columns, s.shape.pixels);
    s.stride_divisor = FastDivisor::of(s.stride);
    s.staged = i == 0 ? static_cast<int>(lower_values) : 0;  // only the total has low positions
    values = larger(values, static_cast<std::size_t>(s.staged) + static_cast<std::size_t>(count) * s.stride);
    s.first_group = p.groups;
    p.groups += ceil_div(r.product[i].output.count, group_rows);
  }
  const std::size_t bytes = round_up<std::size_t>(values * accumulate_size(dtype), kVecBytes);
  p.indices = static_cast<int>(smaller<std::size_t>(bytes, kMaxSharedBytes));
  return bytes + indices * sizeof(int);
}

// `size` cut into the fewest equal parts of at most `part`.
inline int even_part(int size, int part) { return ceil_div(size, ceil_div(size, part)); }

inline cudaError_t make_phase(const PlanFuseDownwardParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  if (params.batch < 0 || params.products < 1 || params.products > kMaxStackedProducts || params.lowers < 0 ||
      params.lowers > kMaxLowerProducts || params.vec < 1)
    return cudaErrorInvalidValue;
  shape = {};
  if (params.batch == 0) return cudaSuccess;
  phase = {};
  phase.params = params;
  phase.height = params.kept.height;
  phase.width = params.kept.width;
  int all_rows = 0, most_rows = 0;
  for (int i = 0; i < params.products; ++i) {
    const PlanStackedProduct& r = params.product[i];
    if (r.input.count < 1 || r.input.count > kMaxColumns || r.input.height < 1 || r.input.width < 1 ||
        r.output.count < 1 || r.output.height != phase.height || r.output.width != phase.width ||
        ceil_div(r.input.height, 2) != phase.height || ceil_div(r.input.width, 2) != phase.width)
      return cudaErrorInvalidValue;
    all_rows += r.output.count;
    most_rows = larger(most_rows, round_up(r.output.count, kPanelRows));
  }
  int rows = 1, columns = 1;
  for (int l = 0; l < params.lowers; ++l) {
    const PlaneSources& low = params.lower[l].input;
    if (low.count < 1 || low.count > kMaxColumns || low.height < 1 || low.width < 1) return cudaErrorInvalidValue;
    rows = larger(rows, ceil_div(phase.height, low.height));
    columns = larger(columns, ceil_div(phase.width, low.width));
  }
  while (rows < kTile) rows *= 2;
  while (columns < kTile) columns *= 2;
  rows = even_part(phase.height, smaller(rows, kMaxTile));
  columns = even_part(phase.width, smaller(columns, kMaxTile));

  const auto tiles_of = [&](int r, int c) {
    return static_cast<std::int64_t>(params.batch) * ceil_div(phase.height, r) * ceil_div(phase.width, c);
  };
  while (2 * columns <= kMaxTile && tiles_of(rows, 2 * columns) * params.products >= kMinBlocks &&
         lay_out(phase, rows, 2 * columns, most_rows, dtype, threads) <= kMaxSharedBytes)
    columns *= 2;
  while (2 * rows <= kMaxTile && tiles_of(2 * rows, columns) * params.products >= kMinBlocks &&
         lay_out(phase, 2 * rows, columns, most_rows, dtype, threads) <= kMaxSharedBytes)
    rows *= 2;
  const auto groups = ceil_div<std::int64_t>(kMinBlocks, tiles_of(rows, columns));
  const auto wanted = static_cast<int>(ceil_div<std::int64_t>(all_rows, groups));
  int group_rows = smaller(most_rows, round_up(larger(wanted, 2 * kPanelRows), kPanelRows));
  if (groups <= params.products) group_rows = most_rows;
  std::size_t shared_bytes = lay_out(phase, rows, columns, group_rows, dtype, threads);
  while (shared_bytes > kMaxSharedBytes) {
    if (rows == 1 && columns == 1 && group_rows == kPanelRows) return cudaErrorInvalidValue;
    if (rows > 1 || columns > 1) {
      (rows >= columns ? rows : columns) = ceil_div(larger(rows, columns), 2);
    } else {
      group_rows = round_up(group_rows / 2, kPanelRows);
    }
    shared_bytes = lay_out(phase, rows, columns, group_rows, dtype, threads);
  }
  phase.vec = kMaxProductPixels;
  while (phase.vec > 1 && (phase.vec > params.vec || phase.width % phase.vec != 0 || columns % phase.vec != 0))
    phase.vec /= 2;
  phase.groups_divisor = FastDivisor::of(phase.groups);
  const std::int64_t blocks = tiles_of(rows, columns) * phase.groups;
  if (blocks > kMaxGrid) return cudaErrorInvalidValue;
  for (int i = 0; i < params.products; ++i) {
    const PlaneSources& in = params.product[i].input;
    if (static_cast<std::int64_t>(in.height) * in.width > kMaxGrid) return cudaErrorInvalidValue;
  }
  shape = {static_cast<unsigned>(blocks), shared_bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_fuse_downward
