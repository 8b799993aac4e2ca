// SeparableConvolution: y = relu(W dw(e) + b) with e = relu(W_e x + b_e), or e = x, for all paths at once
//
// dw is a depthwise 3x3 convolution with its bias, padding 1, stride 1 or 2; it pads with zero, not relu(b_e). Sums in
// fp32 (fp64 for fp64), y rounded once, nothing between is.
//
// Layout   x, y planes with rows side by side, each anywhere: tables of planes; W, W_e in panels of 4 rows.
// Mapping  tile = a rectangle of up to 64 output pixels of one image of one path, and a part of W's rows, so that
//          batch 1 has blocks enough (core/pixel_tiles.cuh). A thread keeps one pixel of the tile and filters every so
//          many'th channel of it, from memory: the nine pixels of neighbouring threads meet in L1. All filtered
//          channels of the tile lie in shared memory, then W is multiplied (core/tile_product.cuh).
//          With W_e, the tile's pixels and the halo are staged, multiplied, and filtered out of shared memory.
// Traffic  x is read once with the tile's halo, and once per part, from L1 or L2 but for the first time; matrices once
//          per tile; y is written once.
// Sums     taps and channels in a fixed order: bitwise reproducible.
// Limits   what a tile of one pixel takes within 48 KB of shared memory, in fp32: 20 bytes a channel of x and 16 a row
//          of W, 1,200 of each; with W_e 64 a channel of x, 48 a channel of e and 16 a row, 300 of each; < 2^31 blocks.
#pragma once

#include "core/pixel_tiles.cuh"
#include "cuda/plan_separable_convolution.h"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_separable_convolution {


struct Section {
  PixelTiles tiles;  // of the output
  ProductShape product, expand;
  FastDivisor slots_divisor, halo_divisor;  // halo_divisor: by halo_columns
  int slots;                                // pixels of a tile, up to a multiple of the product's
  int channel_step;                         // threads that share a pixel
  int stride;                               // of filtered channels in shared memory
  int halo_rows, halo_columns, halo_slots, halo_stride;
  int planes_bytes, expanded_bytes;  // where x and filtered channels begin, behind the tables; and e
};

struct Phase {
  PlanSeparableParams params;
  Section section[kMaxSeparablePaths];
};

// Filters all channels of the tile's pixels into filtered[channel][pixel], zero in pixels past the tile or the map.
// Calls taps(channel), which returns an object whose at(ky, kx) is a pixel that is in the map.
template <class scalar_t, class Taps>
__device__ __forceinline__ void filter_channels(const PlanSeparablePath& r, const Section& s, const PixelTile& tile,
                                                int channels, acc_t<scalar_t>* filtered, Taps taps) {
  using acc = acc_t<scalar_t>;
  const int thread = thread_index();
  const int first = s.slots_divisor.divide(thread), slot = thread - first * s.slots;
  if (first >= s.channel_step) return;
  const int row = s.tiles.columns_divisor.divide(slot), column = slot - row * s.tiles.columns;
  const int y = tile.row0 + row, x = tile.column0 + column;
  const bool live = row < s.tiles.rows && y < s.tiles.height && x < s.tiles.width;
  const auto* bias = static_cast<const acc*>(r.depthwise_bias);
  bool in[9];
#pragma unroll
  for (int k = 0; k < 9; ++k) {
    const int in_y = y * r.stride + k / 3 - 1, in_x = x * r.stride + k % 3 - 1;
    in[k] = live && in_y >= 0 && in_y < r.input.height && in_x >= 0 && in_x < r.input.width;
  }
#pragma unroll 2
  for (int channel = first; channel < channels; channel += s.channel_step) {
    const scalar_t* weight = static_cast<const scalar_t*>(r.depthwise_weight) + channel * 9;
    const auto at = taps(channel, row, column, y, x);
    acc sum = live ? bias[channel] : 0;
    acc pixel[9];
#pragma unroll
    for (int k = 0; k < 9; ++k) pixel[k] = in[k] ? at(k / 3, k % 3) : static_cast<acc>(0);
#pragma unroll
    for (int k = 0; k < 9; ++k) sum += to_acc(weight[k]) * pixel[k];
    filtered[channel * s.stride + slot] = live ? sum : 0;
  }
}

// relu(W_e x + b_e) in the tile's pixels and their halo, zero outside of the map.
template <class scalar_t, int kThreads>
__device__ __forceinline__ void expand_halo(const PlanSeparablePath& r, const Section& s, const PixelTile& tile,
                                            const StagedPlane<scalar_t>* planes, acc_t<scalar_t>* x,
                                            acc_t<scalar_t>* expanded) {
  using acc = acc_t<scalar_t>;
  const int row0 = tile.row0 * r.stride - 1, column0 = tile.column0 * r.stride - 1;
  const int height = r.input.height, width = r.input.width;
  const auto offset_of = [&](int slot) {  // of a halo pixel in its plane; negative outside of the map
    const int row = s.halo_divisor.divide(slot), in_y = row0 + row, in_x = column0 + slot - row * s.halo_columns;
    const bool in = row < s.halo_rows && in_y >= 0 && in_y < height && in_x >= 0 && in_x < width;
    return in ? in_y * width + in_x : -1;
  };
  for (int slot = thread_index(); slot < s.halo_slots; slot += kThreads) {
    const int offset = offset_of(slot);
#pragma unroll 4
    for (int channel = 0; channel < r.input.count; ++channel) {
      const StagedPlane<scalar_t> plane = planes[channel];
      x[channel * s.halo_stride + slot] = offset >= 0 ? plane.apply(plane.data[offset]) : static_cast<acc>(0);
    }
  }
  __syncthreads();  // x is staged
  const auto* bias = static_cast<const acc*>(r.expand_bias);
  tile_product<scalar_t, kMaxProductPixels>(
      s.expand, static_cast<const scalar_t*>(r.expand_weight), r.expanded, r.input.count, x, s.halo_stride,
      [&](int row, int pixel, const acc(&sums)[kMaxProductPixels]) {
        const acc b = bias[row];
#pragma unroll
        for (int e = 0; e < kMaxProductPixels; ++e) {
          const acc value = sums[e] + b;
          expanded[row * s.halo_stride + pixel + e] = offset_of(pixel + e) < 0 || value < 0 ? 0 : value;
        }
      });
  __syncthreads();  // e is complete; x is no longer needed, filtered channels take its place
}

template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const int path = product_of_block<kMaxSeparablePaths>(p.section, p.params.paths, block);
  const PlanSeparablePath& r = p.params.path[path];
  const Section& s = p.section[path];
  const PixelTile tile = pixel_tile(s.tiles, block - s.tiles.first_block, r.output.count);
  const int channels = r.expanded > 0 ? r.expanded : r.input.count;
  auto* planes = reinterpret_cast<StagedPlane<scalar_t>*>(shared);
  auto* targets = reinterpret_cast<StagedTarget<scalar_t>*>(planes + r.input.count);
  auto* filtered = reinterpret_cast<acc*>(shared + s.planes_bytes);

  stage_planes(r.input, tile.image, planes);
  stage_targets(r.output, r.bias, tile, targets);
  __syncthreads();  // the tables are staged
  if (r.expanded > 0) {
    auto* expanded = reinterpret_cast<acc*>(shared + s.expanded_bytes);
    expand_halo<scalar_t, kThreads>(r, s, tile, planes, filtered, expanded);
    filter_channels<scalar_t>(r, s, tile, channels, filtered, [&](int channel, int row, int column, int, int) {
      const acc* corner = expanded + channel * s.halo_stride + row * r.stride * s.halo_columns + column * r.stride;
      return [=, &s](int ky, int kx) { return corner[ky * s.halo_columns + kx]; };
    });
  } else {
    filter_channels<scalar_t>(r, s, tile, channels, filtered, [&](int channel, int, int, int y, int x) {
      const StagedPlane<scalar_t> plane = planes[channel];
      const int corner = (y * r.stride - 1) * r.input.width + x * r.stride - 1;
      return [=, &r](int ky, int kx) { return plane.apply(plane.data[corner + ky * r.input.width + kx]); };
    });
  }
  __syncthreads();  // all channels are filtered

  const auto* panels = static_cast<const scalar_t*>(r.weight) + static_cast<std::int64_t>(tile.first_row) * channels;
  visit_product(s.product, [&](auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    tile_product<scalar_t, kPixels>(s.product, panels, tile.rows, channels, filtered, s.stride,
                                    [&](int row, int pixel, const acc(&sums)[kPixels]) {
                                      const StagedTarget<scalar_t>& target = targets[row];
                                      acc values[kPixels];
#pragma unroll
                                      for (int e = 0; e < kPixels; ++e) {
                                        const acc value = sums[e] + target.bias;
                                        values[e] = value < 0 ? 0 : value;
                                      }
                                      store_pixels<kPixels>(s.tiles, tile, target.data, pixel, values);
                                    });
  });
}


// The section of a path whose product is cut; first_block is left open. Returns the shared memory that it takes.
inline std::size_t make_section(const PlanSeparablePath& r, const ProductCut& cut, DType dtype, int threads,
                                Section& s) {
  s = {};
  const int channels = r.expanded > 0 ? r.expanded : r.input.count, size = static_cast<int>(accumulate_size(dtype));
  s.tiles = make_pixel_tiles(cut, r.output_aligned);
  const int pixels = s.tiles.rows * s.tiles.columns;
  s.product = make_product_shape(smaller(s.tiles.part_rows, r.output.count), channels, pixels, threads);
  s.slots = s.product.groups * s.product.pixels;
  s.slots_divisor = FastDivisor::of(s.slots);
  s.channel_step = threads / s.slots;
  s.stride = product_stride(pixels, s.product.pixels);
  const std::size_t plane = dtype == DType::kFloat64 ? sizeof(StagedPlane<double>) : sizeof(StagedPlane<float>);
  s.planes_bytes = static_cast<int>(r.input.count * plane + s.tiles.part_rows * kStagedTargetBytes);
  std::int64_t taken = static_cast<std::int64_t>(channels) * s.stride, expanded = 0;
  if (r.expanded > 0) {
    s.halo_rows = (s.tiles.rows - 1) * r.stride + 3;
    s.halo_columns = (s.tiles.columns - 1) * r.stride + 3;
    s.halo_divisor = FastDivisor::of(s.halo_columns);
    s.expand = make_product_shape(r.expanded, r.input.count, s.halo_rows * s.halo_columns, 1);
    s.halo_slots = s.expand.groups * s.expand.pixels;
    s.halo_stride = product_stride(s.halo_rows * s.halo_columns, s.expand.pixels);
    taken = larger(taken, static_cast<std::int64_t>(r.input.count) * s.halo_stride);
    expanded = static_cast<std::int64_t>(r.expanded) * s.halo_stride;
  }
  taken = round_up(taken, static_cast<std::int64_t>(kVectorPad));
  s.expanded_bytes = static_cast<int>(smaller<std::int64_t>(s.planes_bytes + taken * size, 1 << 30));
  return static_cast<std::size_t>(s.planes_bytes + (taken + expanded) * size);
}

// The cut with the largest tiles that shared memory takes.
inline ProductCut largest_cut(const PlanSeparablePath& r, DType dtype, int threads) {
  const int channels = r.expanded > 0 ? r.expanded : r.input.count;
  const std::int64_t halo = r.stride == 1 ? 2 : 5;  // halo pixels of an output pixel, about
  ProductCut cut{r.output.height, r.output.width, r.output.count, 0, channels, kMaxTilePixels, 1};
  cut.pixel_work = channels * 9 + halo * r.expanded * r.input.count;
  Section unused;
  while (cut.tile_pixels > 1 && make_section(r, cut, dtype, threads, unused) > kMaxSharedBytes) cut.tile_pixels /= 2;
  return cut;
}

inline cudaError_t make_phase(const PlanSeparableParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  if (params.paths < 1 || params.paths > kMaxSeparablePaths || params.batch < 1) return cudaErrorInvalidValue;
  phase = {params, {}};
  ProductCut cuts[kMaxSeparablePaths];
  for (int i = 0; i < params.paths; ++i) cuts[i] = largest_cut(params.path[i], dtype, threads);
  cut_products(cuts, params.paths, params.batch);

  std::int64_t blocks = 0;
  std::size_t bytes = 0;
  for (int i = 0; i < params.paths; ++i) {
    Section& s = phase.section[i];
    std::size_t own = make_section(params.path[i], cuts[i], dtype, threads, s);
    while (own > kMaxSharedBytes && cuts[i].tile_pixels > 1) {  // other shapes of the product need more room
      cuts[i].tile_pixels /= 2;
      own = make_section(params.path[i], cuts[i], dtype, threads, s);
    }
    bytes = larger(bytes, own);
    s.tiles.first_block = static_cast<int>(blocks);
    blocks += static_cast<std::int64_t>(s.tiles.down) * s.tiles.across * s.tiles.parts * params.batch;
    if (blocks > kMaxGrid) return cudaErrorInvalidValue;
  }
  if (bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  shape = {static_cast<unsigned>(blocks), bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_separable_convolution
