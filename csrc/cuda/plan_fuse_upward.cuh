// FuseUpward: s = 2 o_0 + sum_j up(W_j o_j) + b, stored as it is or after a ReLU, and relu(s) besides where wanted
//
// o_0 `top`, o_j `lower`, with what is pending on their planes; up is nearest upsampling with PyTorch's rounding.
// Accumulation in fp32 (fp64 for fp64); s is rounded once, when it is stored.
//
// Layout   source planes of dense rows, anywhere; W_j in panels (core/tile_product.cuh); outputs plane after plane.
// Mapping  block = a tile of pixels x a group of rows of one image. It evaluates the pending gates, stages the low
//          positions that its pixels read, multiplies them, one value per low position, and then adds up its pixels in
//          vectors of up to 16 bytes. Tiles are whole windows of the lowest resolution, several as soon as kMinBlocks
//          blocks remain; with fewer tiles (batch 1: 48 of 8x8 pixels) rows are cut into groups.
// Traffic  top is read and the outputs are written once. Every group reads the low positions of its tile again, from
//          L2; every block the gates' weights, and its rows of the matrices (90 KB in all in the four-branch network).
// Sums     in a fixed order: bitwise reproducible, no atomics.
// Limits   the low positions of a tile of one pixel, all their channels, within 48 KB of shared memory: sum of columns
//          up to about 3,000 in fp32; below 2^31 blocks.
#pragma once

#include "core/pending_gate.cuh"
#include "cuda/plan_fuse_upward.h"
#include "cuda/plan_lower_products.cuh"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_fuse_upward {

constexpr int kMinBlocks = 120;  // about the number of multiprocessors
constexpr int kMaxTile = 16;     // pixels on a side
constexpr int kDefaultTile = 8;  // on a side, where there is no lower resolution

struct Phase {
  PlanFuseUpwardParams params;
  PendingGates gates;
  MapTiles tiles;
  LowerTiles lower[kMaxLowerProducts];
  FastDivisor groups_divisor, pieces_divisor, row_pieces_divisor;
  int group_rows, groups, vec, pieces, row_pieces;  // pieces: vectors of a tile, of one of its rows
  int values, indices;                              // where those begin in shared memory, in bytes
};
static_assert(sizeof(Phase) <= 4096, "the most that a kernel's parameters take");

template <class scalar_t, int kThreads, int kVec>
__device__ __forceinline__ void add_up(const Phase& p, int image, int first_row, int rows, int tile_row,
                                       int tile_column, const acc_t<scalar_t>* own, const acc_t<scalar_t>* values,
                                       const int* indices) {
  using acc = acc_t<scalar_t>;
  const PlanFuseUpwardParams& r = p.params;
  const int height = r.top.height, width = r.top.width;
#pragma unroll 1
  for (int i = thread_index(); i < rows * p.pieces; i += kThreads) {
    const int row_in_group = p.pieces_divisor.divide(i), piece = i - row_in_group * p.pieces;
    const int tile_y = p.row_pieces_divisor.divide(piece), tile_x = (piece - tile_y * p.row_pieces) * kVec;
    const int row = first_row + row_in_group;
    const int y = tile_row * p.tiles.rows + tile_y, x = tile_column * p.tiles.columns + tile_x;
    if (y >= height || x >= width) continue;
    const int pixel = y * width + x;
    const auto source = source_plane<scalar_t>(r.top, row, image, r.top_gated, own);
    const auto top = load_vec<kVec>(source.data + pixel);
    const acc bias = static_cast<const acc*>(r.bias)[row];
    Vec<scalar_t, kVec> plain, clipped;
#pragma unroll
    for (int e = 0; e < kVec; ++e) {
      const acc low = lower_sum(p.lower, r.lowers, values, indices, row_in_group, tile_y, tile_x + e);
      const acc sum = 2 * source.apply(top.v[e]) + low + bias;
      clipped.v[e] = from_acc<scalar_t>(sum < 0 ? 0 : sum);
      plain.v[e] = r.relu ? clipped.v[e] : from_acc<scalar_t>(sum);
    }
    const auto store = [&](const PlaneTarget& to, const Vec<scalar_t, kVec>& pixels) {
      store_vec(static_cast<scalar_t*>(to.data) + image * to.image_stride +
                    static_cast<std::int64_t>(row) * to.plane_stride + pixel,
                pixels);
    };
    store(r.output, plain);
    if (r.also.data != nullptr) store(r.also, clipped);
  }
}

// One block's work. `shared` holds the gates' factors, then values and indices. A loop over blocks needs a barrier
// between two of them.
template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const PlanFuseUpwardParams& r = p.params;
  const int number = p.groups_divisor.divide(block), group = block - number * p.groups;
  const int image = p.tiles.tiles_divisor.divide(number), tile = number - image * p.tiles.high * p.tiles.wide;
  const int tile_row = p.tiles.wide_divisor.divide(tile), tile_column = tile - tile_row * p.tiles.wide;
  const int first_row = group * p.group_rows, rows = smaller(p.group_rows, r.top.count - first_row);
  acc* own = reinterpret_cast<acc*>(shared);
  acc* values = reinterpret_cast<acc*>(shared + p.values);
  int* indices = reinterpret_cast<int*>(shared + p.indices);

  if (p.gates.count > 0) {
    const bool store = tile == 0 && group == 0;
    evaluate_gates<scalar_t, kThreads>(p.gates, image, nullptr, p.gates.channels, store, values, own);
  }
#pragma unroll 1
  for (int l = 0; l < r.lowers; ++l) {
    stage_lower<scalar_t>(p.lower[l], p.tiles, r.lower[l], r.top.height, r.top.width, image, tile_row, tile_column, own,
                          values, indices);
  }
  __syncthreads();  // low positions are staged
#pragma unroll 1
  for (int l = 0; l < r.lowers; ++l) multiply_lower<scalar_t>(p.lower[l], r.lower[l], first_row, rows, values);
  __syncthreads();  // their products are complete
  visit_vec<scalar_t>(p.vec, [&](auto vec) {
    add_up<scalar_t, kThreads, decltype(vec)::value>(p, image, first_row, rows, tile_row, tile_column, own, values,
                                                     indices);
  });
}


// Lays out a block's shared memory for tiles of rows x columns pixels; returns its bytes.
inline std::size_t lay_out(Phase& p, int rows, int columns, int group_rows, DType dtype, int threads) {
  const PlanFuseUpwardParams& r = p.params;
  const std::size_t size = accumulate_size(dtype);
  p.tiles = make_map_tiles(r.top.height, r.top.width, rows, columns);
  p.group_rows = group_rows;
  p.groups = ceil_div(r.top.count, group_rows);
  std::size_t values = 0, indices = 0;
  for (int l = 0; l < r.lowers; ++l)
    p.lower[l] =
        make_lower_tiles(p.tiles, r.top.height, r.top.width, r.lower[l].input, group_rows, threads, values, indices);
  values = larger<std::size_t>(values, gate_scratch(p.gates));
  const std::size_t first = round_up<std::size_t>(p.gates.channels * size, kVecBytes);
  const std::size_t second = round_up<std::size_t>(first + values * size, kVecBytes);
  p.values = static_cast<int>(smaller<std::size_t>(first, kMaxSharedBytes));
  p.indices = static_cast<int>(smaller<std::size_t>(second, kMaxSharedBytes));
  return second + indices * sizeof(int);
}

inline cudaError_t make_phase(const PlanFuseUpwardParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  const PlaneSources& top = params.top;
  if (params.batch < 0 || params.lowers < 0 || params.lowers > kMaxLowerProducts || params.vec < 1 || top.count < 1 ||
      top.height < 1 || top.width < 1 || !are_valid(params.gate, params.gates))
    return cudaErrorInvalidValue;
  shape = {};
  if (params.batch == 0) return cudaSuccess;
  int ratio_y = kDefaultTile, ratio_x = kDefaultTile;  // a window of the lowest resolution
  for (int l = 0; l < params.lowers; ++l) {
    const PlaneSources& low = params.lower[l].input;
    if (low.count < 1 || low.count > kMaxColumns || low.height < 1 || low.width < 1) return cudaErrorInvalidValue;
    ratio_y = larger(l == 0 ? 1 : ratio_y, ceil_div(top.height, low.height));
    ratio_x = larger(l == 0 ? 1 : ratio_x, ceil_div(top.width, low.width));
  }
  ratio_y = smaller(ratio_y, kMaxTile);
  ratio_x = smaller(ratio_x, kMaxTile);

  phase = {};
  phase.params = params;
  phase.gates = make_pending_gates(params.gate, params.gates, dtype);
  const int all_rows = round_up(top.count, kPanelRows);
  const auto tiles_of = [&](int rows, int columns) {
    return static_cast<std::int64_t>(params.batch) * ceil_div(top.height, rows) * ceil_div(top.width, columns);
  };
  // Larger tiles while there are blocks enough; smaller ones than a window only where memory does not suffice.
  int rows = ratio_y, columns = ratio_x;
  while (2 * columns <= kMaxTile && tiles_of(rows, 2 * columns) >= kMinBlocks &&
         lay_out(phase, rows, 2 * columns, all_rows, dtype, threads) <= kMaxSharedBytes)
    columns *= 2;
  while (2 * rows <= kMaxTile && tiles_of(2 * rows, columns) >= kMinBlocks &&
         lay_out(phase, 2 * rows, columns, all_rows, dtype, threads) <= kMaxSharedBytes)
    rows *= 2;
  const auto groups = static_cast<int>(ceil_div<std::int64_t>(kMinBlocks, tiles_of(rows, columns)));
  int group_rows = smaller(all_rows, round_up(ceil_div(top.count, groups), kPanelRows));
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
  phase.vec = kVecBytes / static_cast<int>(element_size(dtype));
  while (phase.vec > 1 && (phase.vec > params.vec || top.width % phase.vec != 0 || columns % phase.vec != 0))
    phase.vec /= 2;
  phase.row_pieces = columns / phase.vec;
  phase.pieces = rows * phase.row_pieces;
  phase.row_pieces_divisor = FastDivisor::of(phase.row_pieces);
  phase.pieces_divisor = FastDivisor::of(phase.pieces);
  phase.groups_divisor = FastDivisor::of(phase.groups);
  const std::int64_t blocks = tiles_of(rows, columns) * phase.groups;
  if (blocks > kMaxGrid || static_cast<std::int64_t>(top.height) * top.width > kMaxGrid) return cudaErrorInvalidValue;
  shape = {static_cast<unsigned>(blocks), shared_bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_fuse_upward
