// HeadConvolution: y = relu(W dw(x + bilinear(below)) + b), or W_f y + b_f where there is a last layer
//
// dw: depthwise 3x3, padded with zeros; bilinear: to the size of x with aligned corners, as PyTorch computes it.
// Accumulation in fp32 (fp64 for fp64); one rounding, when the result is stored.
//
// Layout   source planes of dense rows, anywhere; matrices in panels (core/tile_product.cuh); the planes of an output
//          follow one another.
// Mapping  block = a tile of pixels x a group of rows of W of one image; with a last layer, which needs all of them, a
//          tile alone. Channels go through shared memory in chunks: the sum x + bilinear(below) of the tile and of the
//          pixels around it, then the filtered tile, which stays there. Then the product, and the last layer's. Tiles
//          are kTile on a side, larger as soon as kMinBlocks blocks remain, smaller if memory does not suffice or rows,
//          which are cut into groups until there are as many blocks, do not.
// Traffic  every group of rows reads its tile and the pixels around it anew, from L2; outputs are written once.
// Sums     in a fixed order: bitwise reproducible, no atomics.
// Limits   all channels of a pixel, with a last layer its rows too, within 48 KB of shared memory: about 3,000
//          channels in fp32; below 2^31 blocks.
#pragma once

#include "cuda/plan_head_convolution.h"
#include "cuda/plan_lower_products.cuh"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_head_convolution {

constexpr int kMinBlocks = 120;  // about the number of multiprocessors
constexpr int kTile = 4;         // pixels on a side
constexpr int kMaxTile = 8;
constexpr int kLeastRows = 2 * kPanelRows;  // of a group: fewer spend most of their time on the pixels
constexpr int kLeastPixels = 8;             // tiles that are made smaller for the sake of blocks have more
constexpr int kPatchBytes = 12 * 1024;  // of a chunk of channels, at most, unless one channel takes more

struct Phase {
  PlanHeadConvolutionParams params;
  MapTiles tiles;
  ProductShape shape, final_shape;
  FastDivisor groups_divisor, stride_divisor, patch_divisor, patch_columns_divisor;
  int stride, final_stride;                  // of a channel of the filtered tile, of a row of y
  int patch, patch_columns, chunk;           // pixels of a patch, of its row; channels of a chunk
  int group_rows, groups, vec;
  int staged;    // values of the filtered tile, the patches lie behind them
  double scale_y, scale_x;  // of aligned corners
};
static_assert(sizeof(Phase) <= 4096, "the most that a kernel's parameters take");

// The two positions, one after the other, that a pixel lies between, and the weight of the second.
template <class acc>
struct Between {
  int first, second;
  acc weight;
};

template <class acc>
__device__ __forceinline__ Between<acc> between(int pixel, acc scale, int positions) {
  const acc place = static_cast<acc>(pixel) * scale;
  const int first = smaller(static_cast<int>(place), positions - 1);
  return {first, smaller(first + 1, positions - 1), place - static_cast<acc>(first)};
}

// x + bilinear(below) of the tile and one pixel around it, `channels` channels from `first` on; zero outside the map.
template <class scalar_t, int kThreads>
__device__ __forceinline__ void stage_patches(const Phase& p, int image, int first, int channels, int row0, int column0,
                                              acc_t<scalar_t>* patches) {
  using acc = acc_t<scalar_t>;
  const PlanHeadConvolutionParams& r = p.params;
  const int height = r.input.height, width = r.input.width;
  const acc* none = nullptr;
  const int values = channels * p.patch;
  constexpr int kFlight = sizeof(scalar_t) <= 4 ? 4 : 2;
#pragma unroll 1
  for (int start = thread_index(); start < values; start += kFlight * kThreads) {
    SourcePlane<scalar_t> source[kFlight], low[kFlight];
    scalar_t pixel[kFlight], corner[kFlight][4];
    acc down[kFlight], right[kFlight];
    bool inside[kFlight];
    if constexpr (kTileLoop) {
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        low[u] = {};
        down[u] = right[u] = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) corner[u][i] = from_acc<scalar_t>(0);
      }
    }
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int i = smaller(start + u * kThreads, values - 1);
      const int channel = p.patch_divisor.divide(i), place = i - channel * p.patch;
      const int patch_y = p.patch_columns_divisor.divide(place), patch_x = place - patch_y * p.patch_columns;
      int y = row0 + patch_y - 1, x = column0 + patch_x - 1;
      inside[u] = y >= 0 && y < height && x >= 0 && x < width;
      y = smaller(larger(y, 0), height - 1);
      x = smaller(larger(x, 0), width - 1);
      source[u] = source_plane<scalar_t>(r.input, first + channel, image, nullptr, none);
      pixel[u] = source[u].data[y * width + x];
      if (r.below.planes != nullptr) {
        low[u] = source_plane<scalar_t>(r.below, first + channel, image, nullptr, none);
        const auto v = between<acc>(y, static_cast<acc>(p.scale_y), r.below.height);
        const auto h = between<acc>(x, static_cast<acc>(p.scale_x), r.below.width);
        corner[u][0] = low[u].data[v.first * r.below.width + h.first];
        corner[u][1] = low[u].data[v.first * r.below.width + h.second];
        corner[u][2] = low[u].data[v.second * r.below.width + h.first];
        corner[u][3] = low[u].data[v.second * r.below.width + h.second];
        down[u] = v.weight;
        right[u] = h.weight;
      }
    }
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int i = start + u * kThreads;
      if (i >= values) continue;
      acc value = source[u].apply(pixel[u]);
      if (r.below.planes != nullptr) {
        const acc upper = (1 - right[u]) * low[u].apply(corner[u][0]) + right[u] * low[u].apply(corner[u][1]);
        const acc under = (1 - right[u]) * low[u].apply(corner[u][2]) + right[u] * low[u].apply(corner[u][3]);
        value += (1 - down[u]) * upper + down[u] * under;
      }
      patches[i] = inside[u] ? value : 0;
    }
  }
}

// The tile's filtered pixels; a place of the stride that is no pixel of the tile gets zero.
template <class scalar_t, int kThreads>
__device__ __forceinline__ void filter_patches(const Phase& p, int first, int channels, const acc_t<scalar_t>* patches,
                                               acc_t<scalar_t>* staged) {
  using acc = acc_t<scalar_t>;
  const PlanHeadConvolutionParams& r = p.params;
  const int pixels = p.tiles.rows * p.tiles.columns;
#pragma unroll 1
  for (int i = thread_index(); i < channels * p.stride; i += kThreads) {
    const int channel = p.stride_divisor.divide(i), pixel = i - channel * p.stride;
    acc sum = 0;
    if (pixel < pixels) {
      const int y = p.tiles.columns_divisor.divide(pixel), x = pixel - y * p.tiles.columns;
      const acc* in = patches + channel * p.patch + y * p.patch_columns + x;
      const scalar_t* weight = static_cast<const scalar_t*>(r.filter) + (first + channel) * 9;
      sum = static_cast<const acc*>(r.filter_bias)[first + channel];
#pragma unroll
      for (int k = 0; k < 9; ++k) sum += to_acc(weight[k]) * in[k / 3 * p.patch_columns + k % 3];
    }
    staged[first * p.stride + i] = sum;
  }
}

// Stores pixels `pixel` to `pixel` + kPixels - 1 of the tile, as far as they are in the map.
template <class scalar_t, int kPixels>
__device__ __forceinline__ void store_output(const Phase& p, int image, int row, int row0, int column0, int pixel,
                                             const acc_t<scalar_t> (&values)[kPixels]) {
  const PlaneTarget& to = p.params.output;
  scalar_t* out = static_cast<scalar_t*>(to.data) + image * to.image_stride +
                  static_cast<std::int64_t>(row) * to.plane_stride;
  if (kPixels <= p.vec) {
    const int tile_y = p.tiles.columns_divisor.divide(pixel);
    const int y = row0 + tile_y, x = column0 + pixel - tile_y * p.tiles.columns;
    if (tile_y >= p.tiles.rows || y >= to.height || x >= to.width) return;
    constexpr int kVec = smaller(kPixels, kVecElems<scalar_t>);
#pragma unroll
    for (int first = 0; first < kPixels; first += kVec) {
      Vec<scalar_t, kVec> piece;
#pragma unroll
      for (int e = 0; e < kVec; ++e) piece.v[e] = from_acc<scalar_t>(values[first + e]);
      store_vec(out + y * to.width + x + first, piece);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kPixels; ++e) {
      const int tile_y = p.tiles.columns_divisor.divide(pixel + e);
      const int y = row0 + tile_y, x = column0 + pixel + e - tile_y * p.tiles.columns;
      if (tile_y < p.tiles.rows && y < to.height && x < to.width) out[y * to.width + x] = from_acc<scalar_t>(values[e]);
    }
  }
}

// One block's work. `shared` holds the filtered tile, then patches; these give way to y where there is a last layer.
// A loop over blocks needs a barrier between two of them.
template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const PlanHeadConvolutionParams& r = p.params;
  const int number = p.groups_divisor.divide(block), group = block - number * p.groups;
  const int image = p.tiles.tiles_divisor.divide(number), tile = number - image * p.tiles.high * p.tiles.wide;
  const int tile_row = p.tiles.wide_divisor.divide(tile), tile_column = tile - tile_row * p.tiles.wide;
  const int row0 = tile_row * p.tiles.rows, column0 = tile_column * p.tiles.columns;
  const int first_row = group * p.group_rows, rows = smaller(p.group_rows, r.rows - first_row);
  const int channels = r.input.count;
  acc* staged = reinterpret_cast<acc*>(shared);
  acc* patches = staged + p.staged;

#pragma unroll 1
  for (int first = 0; first < channels; first += p.chunk) {
    const int count = smaller(p.chunk, channels - first);
    stage_patches<scalar_t, kThreads>(p, image, first, count, row0, column0, patches);
    __syncthreads();  // patches are complete
    filter_patches<scalar_t, kThreads>(p, first, count, patches, staged);
    __syncthreads();  // patches are free again, and at the end the filtered tile is complete
  }
  const bool last = r.final_panels != nullptr;
  acc* y = patches;
  if (last) {  // pixels that the last product reads and this one does not make
    const int made = round_up(p.tiles.rows * p.tiles.columns, p.shape.pixels), pad = p.final_stride - made;
    for (int i = thread_index(); i < rows * pad; i += kThreads)
      y[i / pad * p.final_stride + made + i % pad] = 0;
  }
  const auto* panels = static_cast<const scalar_t*>(r.panels) + static_cast<std::int64_t>(first_row) * channels;
  visit_product(p.shape, [&](auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    tile_product<scalar_t, kPixels>(p.shape, panels, rows, channels, staged, p.stride,
                                    [&](int row, int pixel, const acc(&sums)[kPixels]) {
                                      const acc bias = static_cast<const acc*>(r.bias)[first_row + row];
                                      acc values[kPixels];
#pragma unroll
                                      for (int e = 0; e < kPixels; ++e) {
                                        values[e] = sums[e] + bias;
                                        values[e] = values[e] < 0 ? 0 : values[e];
                                        if (last) y[row * p.final_stride + pixel + e] = values[e];
                                      }
                                      if (!last)
                                        store_output<scalar_t, kPixels>(p, image, first_row + row, row0, column0, pixel,
                                                                        values);
                                    });
  });
  if (!last) return;
  __syncthreads();  // y is complete
  visit_product(p.final_shape, [&](auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    tile_product<scalar_t, kPixels>(p.final_shape, static_cast<const scalar_t*>(r.final_panels), r.output.count, r.rows,
                                    y, p.final_stride, [&](int row, int pixel, const acc(&sums)[kPixels]) {
                                      const acc bias = static_cast<const acc*>(r.final_bias)[row];
                                      acc values[kPixels];
#pragma unroll
                                      for (int e = 0; e < kPixels; ++e) values[e] = sums[e] + bias;
                                      store_output<scalar_t, kPixels>(p, image, row, row0, column0, pixel, values);
                                    });
  });
}


// Lays out a block's shared memory for tiles of rows x columns pixels; returns its bytes.
inline std::size_t lay_out(Phase& p, int rows, int columns, int group_rows, DType dtype, int threads) {
  const PlanHeadConvolutionParams& r = p.params;
  const int pixels = rows * columns, channels = r.input.count;
  const std::size_t size = accumulate_size(dtype);
  p.tiles = make_map_tiles(r.input.height, r.input.width, rows, columns);
  p.group_rows = group_rows;
  p.groups = ceil_div(r.rows, group_rows);
  p.shape = make_product_shape(smaller(group_rows, r.rows), channels, pixels, threads);
  p.stride = product_stride(pixels, p.shape.pixels);
  p.stride_divisor = FastDivisor::of(p.stride);
  p.patch_columns = columns + 2;
  p.patch = (rows + 2) * p.patch_columns;
  p.patch_divisor = FastDivisor::of(p.patch);
  p.patch_columns_divisor = FastDivisor::of(p.patch_columns);
  p.chunk = smaller(larger(kPatchBytes / static_cast<int>(size) / p.patch, 1), channels);
  const std::size_t staged = round_up<std::size_t>(static_cast<std::size_t>(channels) * p.stride, kVecBytes / 4);
  p.staged = static_cast<int>(smaller<std::size_t>(staged, kMaxSharedBytes));
  std::size_t behind = static_cast<std::size_t>(p.chunk) * p.patch;
  if (r.final_panels != nullptr) {
    p.final_shape = make_product_shape(r.output.count, r.rows, pixels, threads);
    p.final_stride = product_stride(pixels, kMaxProductPixels);  // written in one shape, read in another
    behind = larger(behind, static_cast<std::size_t>(r.rows) * p.final_stride);
  }
  return (staged + behind) * size;
}

// `size` cut into the fewest equal parts of at most `part`.
inline int even_part(int size, int part) { return ceil_div(size, ceil_div(size, part)); }

inline double corner_scale(int positions, int size, DType dtype) {
  if (size == 1) return 0;
  if (dtype == DType::kFloat64) return static_cast<double>(positions - 1) / (size - 1);
  return static_cast<float>(positions - 1) / static_cast<float>(size - 1);
}

inline cudaError_t make_phase(const PlanHeadConvolutionParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  const int height = params.input.height, width = params.input.width;
  const bool last = params.final_panels != nullptr;
  if (params.batch < 0 || params.vec < 1 || params.input.count < 1 || params.input.count > kMaxColumns ||
      params.rows < 1 || params.output.count < 1 || (!last && params.output.count != params.rows) || height < 1 ||
      width < 1 || params.output.height != height || params.output.width != width ||
      static_cast<std::int64_t>(height) * width > kMaxGrid)
    return cudaErrorInvalidValue;
  if (params.below.planes != nullptr &&
      (params.below.count != params.input.count || params.below.height < 1 || params.below.width < 1))
    return cudaErrorInvalidValue;
  shape = {};
  if (params.batch == 0) return cudaSuccess;
  phase = {};
  phase.params = params;
  if (params.below.planes != nullptr) {
    phase.scale_y = corner_scale(params.below.height, height, dtype);
    phase.scale_x = corner_scale(params.below.width, width, dtype);
  }
  const int all_rows = round_up(params.rows, kPanelRows);
  const auto tiles_of = [&](int r, int c) {
    return static_cast<std::int64_t>(params.batch) * ceil_div(height, r) * ceil_div(width, c);
  };
  int rows = even_part(height, kTile), columns = even_part(width, kTile);
  while (2 * columns <= kMaxTile && tiles_of(rows, 2 * columns) >= kMinBlocks &&
         lay_out(phase, rows, 2 * columns, all_rows, dtype, threads) <= kMaxSharedBytes)
    columns *= 2;
  while (2 * rows <= kMaxTile && tiles_of(2 * rows, columns) >= kMinBlocks &&
         lay_out(phase, 2 * rows, columns, all_rows, dtype, threads) <= kMaxSharedBytes)
    rows *= 2;
  const int least = smaller(kLeastRows, all_rows);
  while (!last && rows * columns > kLeastPixels && tiles_of(rows, columns) * ceil_div(params.rows, least) < kMinBlocks)
    (rows >= columns ? rows : columns) = ceil_div(larger(rows, columns), 2);
  const auto wanted = static_cast<int>(ceil_div<std::int64_t>(kMinBlocks, tiles_of(rows, columns)));
  const int group_rows =
      last ? all_rows : smaller(all_rows, larger(least, round_up(ceil_div(params.rows, wanted), kPanelRows)));
  std::size_t shared_bytes = lay_out(phase, rows, columns, group_rows, dtype, threads);
  while (shared_bytes > kMaxSharedBytes) {
    if (rows == 1 && columns == 1) return cudaErrorInvalidValue;
    (rows >= columns ? rows : columns) = ceil_div(larger(rows, columns), 2);
    shared_bytes = lay_out(phase, rows, columns, group_rows, dtype, threads);
  }
  phase.vec = kMaxProductPixels;
  while (phase.vec > 1 && (phase.vec > params.vec || width % phase.vec != 0 || columns % phase.vec != 0))
    phase.vec /= 2;
  phase.groups_divisor = FastDivisor::of(phase.groups);
  const std::int64_t blocks = tiles_of(rows, columns) * phase.groups;
  if (blocks > kMaxGrid) return cudaErrorInvalidValue;
  shape = {static_cast<unsigned>(blocks), shared_bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_head_convolution
