// StemConvolution: y = relu(W * x + b), 3x3, stride 2, padding 1; sums in fp32 (fp64 for fp64), y rounded once
//
// Layout   x, y planes with rows side by side, each anywhere: tables of planes; W as a matrix [rows, 9 channels] in
//          panels of 4 rows.
// Mapping  tile = a rectangle of up to 64 output pixels of one image, and a part of the rows where there are few
//          (core/pixel_tiles.cuh). A block lays out the 9 taps of every channel of its pixels as columns in shared
//          memory, read from memory with neighbours meeting in L1, then multiplies (core/tile_product.cuh).
// Traffic  x is read 1.1 times with tiles of 8 x 8 (L1 sees 9/4), W, which is small, once per tile, y is written once.
// Sums     channel by channel, tap by tap: bitwise reproducible.
// Limits   what a tile of one pixel takes within 48 KB of shared memory, in fp32: 52 bytes a channel and 16 a row, 700
//          of each; < 2^31 blocks.
#pragma once

#include "core/pixel_tiles.cuh"
#include "cuda/plan_stem_convolution.h"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_stem_convolution {

constexpr int kTaps = 9;

struct Phase {
  PlanStemParams params;
  PixelTiles tiles;
  ProductShape product;
  FastDivisor slots_divisor;
  int slots;       // pixels of a tile, up to a multiple of the product's
  int tap_step;    // threads that share a pixel
  int stride;      // of columns in shared memory
  int taps_bytes;  // what they take
};

template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const PlanStemParams& r = p.params;
  const PixelTile tile = pixel_tile(p.tiles, block, r.output.count);
  const int columns = kTaps * r.input.count;
  auto* taps = reinterpret_cast<acc*>(shared);
  auto* planes = reinterpret_cast<StagedPlane<scalar_t>*>(shared + p.taps_bytes);
  auto* targets = reinterpret_cast<StagedTarget<scalar_t>*>(planes + r.input.count);

  stage_planes(r.input, tile.image, planes);
  stage_targets(r.output, r.bias, tile, targets);
  __syncthreads();  // the tables are staged
  const int thread = thread_index(), first = p.slots_divisor.divide(thread);
  const int slot = thread - first * p.slots, row = p.tiles.columns_divisor.divide(slot);
  const int in_y = 2 * (tile.row0 + row) - 1, in_x = 2 * (tile.column0 + slot - row * p.tiles.columns) - 1;
  if (first < p.tap_step) {
#pragma unroll 8
    for (int column = first; column < columns; column += p.tap_step) {
      const int channel = column / kTaps, tap = column - channel * kTaps;
      const int y = in_y + tap / 3, x = in_x + tap % 3;
      const StagedPlane<scalar_t> plane = planes[channel];
      const bool in = row < p.tiles.rows && y >= 0 && y < r.input.height && x >= 0 && x < r.input.width;
      taps[column * p.stride + slot] = in ? plane.apply(plane.data[y * r.input.width + x]) : static_cast<acc>(0);
    }
  }
  __syncthreads();  // taps are staged

  const auto* panels = static_cast<const scalar_t*>(r.weight) + static_cast<std::int64_t>(tile.first_row) * columns;
  visit_product(p.product, [&](auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    tile_product<scalar_t, kPixels>(p.product, panels, tile.rows, columns, taps, p.stride,
                                    [&](int row, int pixel, const acc(&sums)[kPixels]) {
                                      const StagedTarget<scalar_t>& target = targets[row];
                                      acc values[kPixels];
#pragma unroll
                                      for (int e = 0; e < kPixels; ++e) {
                                        const acc value = sums[e] + target.bias;
                                        values[e] = value < 0 ? 0 : value;
                                      }
                                      store_pixels<kPixels>(p.tiles, tile, target.data, pixel, values);
                                    });
  });
}


// Fills in the geometry, and returns the shared memory that it takes.
inline std::size_t make_geometry(const ProductCut& cut, DType dtype, int threads, Phase& p) {
  const PlanStemParams& r = p.params;
  const int columns = kTaps * r.input.count;
  p.tiles = make_pixel_tiles(cut, r.output_aligned);
  const int pixels = p.tiles.rows * p.tiles.columns;
  p.product = make_product_shape(smaller(p.tiles.part_rows, r.output.count), columns, pixels, threads);
  p.slots = p.product.groups * p.product.pixels;
  p.slots_divisor = FastDivisor::of(p.slots);
  p.tap_step = threads / p.slots;
  p.stride = product_stride(pixels, p.product.pixels);
  p.taps_bytes = round_up(columns * p.stride, kVectorPad) * static_cast<int>(accumulate_size(dtype));
  const std::size_t plane = dtype == DType::kFloat64 ? sizeof(StagedPlane<double>) : sizeof(StagedPlane<float>);
  return p.taps_bytes + r.input.count * plane + p.tiles.part_rows * kStagedTargetBytes;
}

inline cudaError_t make_phase(const PlanStemParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  if (params.batch < 1) return cudaErrorInvalidValue;
  phase = {};
  phase.params = params;
  const int columns = kTaps * params.input.count;
  ProductCut cut{
      params.output.height, params.output.width, params.output.count, 2 * columns, columns, kMaxTilePixels, 1};
  while (cut.tile_pixels > 1 && make_geometry(cut, dtype, threads, phase) > kMaxSharedBytes) cut.tile_pixels /= 2;
  cut_products(&cut, 1, params.batch);
  const std::size_t bytes = make_geometry(cut, dtype, threads, phase);
  const std::int64_t blocks =
      static_cast<std::int64_t>(phase.tiles.down) * phase.tiles.across * phase.tiles.parts * params.batch;
  if (bytes > kMaxSharedBytes || blocks > kMaxGrid) return cudaErrorInvalidValue;
  shape = {static_cast<unsigned>(blocks), bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_stem_convolution
