// PointwiseConvolution: y = W x + b, with a ReLU where wanted, for all paths at once
//
// Layout   x, y planes of pixels in a row, each anywhere: tables of planes; W in panels of 4 rows; sums in fp32 (fp64
//          for fp64), y rounded once.
// Mapping  tile = up to 64 neighbouring pixels of one image of one path, and a part of W's rows, so that batch 1 has
//          blocks enough (core/pixel_tiles.cuh). A block stages all channels of its pixels in shared memory, pending
//          operations applied, in loads of up to 16 bytes, then multiplies (core/tile_product.cuh).
// Traffic  x is read once per part (once from memory, else from L2), W once per tile, y written once.
// Sums     along the channels in a fixed order: bitwise reproducible.
// Limits   what a tile of one pixel takes within 48 KB of shared memory, in fp32: 36 bytes a channel and 16 a row of W,
//          900 of each; < 2^31 blocks.
#pragma once

#include "core/pixel_tiles.cuh"
#include "cuda/plan_pointwise_convolution.h"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_pointwise_convolution {


struct Section {
  PixelTiles tiles;  // of the map as one row
  ProductShape product;
  FastDivisor pieces_divisor;  // pieces of `load_vec` pixels of a tile
  int pieces, load_vec, stride;
};

struct Phase {
  PlanPointwiseParams params;
  Section section[kMaxPointwisePaths];
};

// Stages the tile's pixels of all channels, zero past the map's end.
template <class scalar_t, int kThreads, int kVec>
__device__ __forceinline__ void stage_pixels(const Section& s, const PixelTile& tile, int channels,
                                             const StagedPlane<scalar_t>* planes, acc_t<scalar_t>* x) {
#pragma unroll 4
  for (int i = thread_index(); i < channels * s.pieces; i += kThreads) {
    const int channel = s.pieces_divisor.divide(i), pixel = (i - channel * s.pieces) * kVec;
    const StagedPlane<scalar_t> plane = planes[channel];
    Vec<scalar_t, kVec> pixels;
#pragma unroll
    for (int e = 0; e < kVec; ++e) pixels.v[e] = from_acc<scalar_t>(0);
    if (tile.column0 + pixel < s.tiles.width) pixels = load_vec<kVec>(plane.data + tile.column0 + pixel);
#pragma unroll
    for (int e = 0; e < kVec; ++e) {
      x[channel * s.stride + pixel + e] =
          tile.column0 + pixel < s.tiles.width ? plane.apply(pixels.v[e]) : static_cast<acc_t<scalar_t>>(0);
    }
  }
}

template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const int path = product_of_block<kMaxPointwisePaths>(p.section, p.params.paths, block);
  const PlanPointwisePath& r = p.params.path[path];
  const Section& s = p.section[path];
  const PixelTile tile = pixel_tile(s.tiles, block - s.tiles.first_block, r.output.count);
  const int channels = r.input.count;
  auto* x = reinterpret_cast<acc*>(shared);
  auto* planes = reinterpret_cast<StagedPlane<scalar_t>*>(x + round_up(channels * s.stride, kVectorPad));
  auto* targets = reinterpret_cast<StagedTarget<scalar_t>*>(planes + channels);

  stage_planes(r.input, tile.image, planes);
  stage_targets(r.output, r.bias, tile, targets);
  __syncthreads();  // the tables are staged
  visit_vec<scalar_t>(s.load_vec, [&](auto vec) {
    stage_pixels<scalar_t, kThreads, decltype(vec)::value>(s, tile, channels, planes, x);
  });
  __syncthreads();  // x is staged

  const auto* panels = static_cast<const scalar_t*>(r.weight) + static_cast<std::int64_t>(tile.first_row) * channels;
  visit_product(s.product, [&](auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    tile_product<scalar_t, kPixels>(s.product, panels, tile.rows, channels, x, s.stride,
                                    [&](int row, int pixel, const acc(&sums)[kPixels]) {
                                      const StagedTarget<scalar_t>& target = targets[row];
                                      acc values[kPixels];
#pragma unroll
                                      for (int e = 0; e < kPixels; ++e) {
                                        const acc value = sums[e] + target.bias;
                                        values[e] = r.relu != 0 && value < 0 ? 0 : value;
                                      }
                                      store_pixels<kPixels>(s.tiles, tile, target.data, pixel, values);
                                    });
  });
}


inline std::size_t shared_bytes(int channels, int stride, int rows, DType dtype) {
  const std::size_t plane = dtype == DType::kFloat64 ? sizeof(StagedPlane<double>) : sizeof(StagedPlane<float>);
  return round_up(channels * stride, kVectorPad) * accumulate_size(dtype) + channels * plane +
         rows * kStagedTargetBytes;
}

inline cudaError_t make_phase(const PlanPointwiseParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  if (params.paths < 1 || params.paths > kMaxPointwisePaths || params.batch < 1) return cudaErrorInvalidValue;
  phase = {params, {}};
  ProductCut cuts[kMaxPointwisePaths];
  for (int i = 0; i < params.paths; ++i) {
    const PlanPointwisePath& r = params.path[i];
    int pixels = kMaxTilePixels;
    while (pixels > 1 && shared_bytes(r.input.count, pixels + kPanelRows, r.output.count, dtype) > kMaxSharedBytes)
      pixels /= 2;
    cuts[i] = {1, r.input.height * r.input.width, r.output.count, r.input.count, r.input.count, pixels, 1};
  }
  cut_products(cuts, params.paths, params.batch);

  std::int64_t blocks = 0;
  std::size_t bytes = 0;
  for (int i = 0; i < params.paths; ++i) {
    const PlanPointwisePath& r = params.path[i];
    Section& s = phase.section[i];
    s.tiles = make_pixel_tiles(cuts[i], r.output_aligned);
    const int part_rows = smaller(s.tiles.part_rows, r.output.count);
    s.product = make_product_shape(part_rows, r.input.count, s.tiles.columns, threads);
    s.stride = product_stride(s.tiles.columns, s.product.pixels);
    s.load_vec = smaller(r.input_aligned, kVecBytes / static_cast<int>(element_size(dtype)));
    while (s.load_vec > 1 && (s.tiles.width % s.load_vec != 0 || s.tiles.columns % s.load_vec != 0)) s.load_vec /= 2;
    s.pieces = round_up(s.tiles.columns, larger(s.load_vec, s.product.pixels)) / s.load_vec;
    s.pieces_divisor = FastDivisor::of(s.pieces);
    s.tiles.first_block = static_cast<int>(blocks);
    blocks += static_cast<std::int64_t>(s.tiles.down) * s.tiles.across * s.tiles.parts * params.batch;
    bytes = larger(bytes, shared_bytes(r.input.count, s.stride, part_rows, dtype));
    if (blocks > kMaxGrid) return cudaErrorInvalidValue;
  }
  if (bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  shape = {static_cast<unsigned>(blocks), bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_pointwise_convolution
