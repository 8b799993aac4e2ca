// The third launch of cross_resolution_weighting_batch_norm: y_i = x_i * upsample(sigmoid(norm2(logits)))_i, all
// branches i at once
//
// Mapping  block = kOutputVectors vectors of up to 16 bytes of one channel, in one image or several; thread = vector.
//          Every warp merges the parts of the channel's statistics for itself; the channel's first one stores them.
// Traffic  reads x and writes y once; a logit is read by the pixels that it is for, from L1.
#pragma once

#include "core/gates.cuh"
#include "core/resample.h"
#include "cuda/cross_resolution_weighting_batch_norm.h"

namespace litehrnet {
namespace {

constexpr int kOutputThreads = 256;
constexpr int kOutputVectors = 4 * kOutputThreads;

struct OutputSection {
  FastDivisor vectors_per_row, vectors_per_plane;
  int first_block, tiles;  // blocks: of the branch, over all branches; of a channel
  int gate_channel;        // of the branch's first channel
  int vec;
};

struct OutputPlan {
  CrossResolutionWeightingBatchNormParams params;
  OutputSection section[kMaxBranches];
  PositionGates gates;  // norm2's statistics may still be in parts
};

template <class scalar_t, int kVec>
__device__ __forceinline__ void output_tile(const OutputPlan& p, int branch, int channel, int tile) {
  const OutputSection& s = p.section[branch];
  const CrossResolutionWeightingBatchNormBranch& r = p.params.branch[branch];
  const int gate_channel = s.gate_channel + channel, vectors = r.height * r.width / kVec;
  const auto norm = gate_norm<acc_t<scalar_t>>(p.gates, gate_channel, tile == 0 && threadIdx.x < kWarpSize);
  const int first = tile * kOutputVectors, all = vectors * p.params.batch;
  for (int i = first + static_cast<int>(threadIdx.x); i < smaller(first + kOutputVectors, all); i += kOutputThreads) {
    const int image = s.vectors_per_plane.divide(i), vector = i - image * vectors;
    const int row = s.vectors_per_row.divide(vector), offset = vector * kVec;
    const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + channel * r.x_plane_stride;
    const std::int64_t plane = static_cast<std::int64_t>(image) * r.channels + channel;
    scalar_t* y = static_cast<scalar_t*>(r.y) + plane * r.height * r.width;
    const scalar_t* logits = gate_logits<scalar_t>(p.gates, image, gate_channel) +
                             nearest_position(row, p.gates.height, r.height) * p.gates.width;
    auto pixels = load_vec<kVec>(x + offset);
#pragma unroll
    for (int e = 0; e < kVec; ++e) {
      const int column = nearest_position(offset - row * r.width + e, p.gates.width, r.width);
      pixels.v[e] = from_acc<scalar_t>(to_acc(pixels.v[e]) * gate_at(norm, logits[column]));
    }
    store_vec(y + offset, pixels);
  }
}

template <class scalar_t>
__global__ void __launch_bounds__(kOutputThreads) output_kernel(const __grid_constant__ OutputPlan plan) {
  const int block = static_cast<int>(blockIdx.x);
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < plan.params.branches && block >= plan.section[b].first_block;
  const OutputSection& s = plan.section[branch];
  const int channel = (block - s.first_block) / s.tiles, tile = block - s.first_block - channel * s.tiles;
  visit_vec<scalar_t>(s.vec, [&](auto vec) {
    output_tile<scalar_t, decltype(vec)::value>(plan, branch, channel, tile);
  });
}

// For a channel's pixels in all images below 2^31 - kOutputVectors.
cudaError_t launch_outputs(const CrossResolutionWeightingBatchNormParams& params, const PositionGates& gates,
                           DType dtype, cudaStream_t stream) {
  const int size = static_cast<int>(element_size(dtype));
  OutputPlan plan{};
  plan.params = params;
  plan.gates = gates;
  std::int64_t blocks = 0;
  int channels = 0;
  for (int b = 0; b < params.branches; ++b) {
    const CrossResolutionWeightingBatchNormBranch& r = params.branch[b];
    OutputSection& s = plan.section[b];
    s.vec = kVecBytes / size;
    while (s.vec > 1 && (r.width % s.vec != 0 || !is_aligned(r.y, size, 0, 0, s.vec * size) ||
                         !is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, s.vec * size)))
      s.vec /= 2;
    const int vectors = r.height * r.width / s.vec;
    s.vectors_per_row = FastDivisor::of(r.width / s.vec);
    s.vectors_per_plane = FastDivisor::of(vectors);
    s.tiles = ceil_div(vectors * params.batch, kOutputVectors);
    s.first_block = static_cast<int>(blocks);
    s.gate_channel = channels;
    channels += r.channels;
    blocks += static_cast<std::int64_t>(s.tiles) * r.channels;
    if (blocks > kMaxGrid) return cudaErrorInvalidValue;
  }
  return visit_dtype(dtype, [&](auto zero) {
    return launch(output_kernel<decltype(zero)>, dim3(static_cast<unsigned>(blocks)), dim3(kOutputThreads), 0, stream,
                  plan);
  });
}

}  // namespace
}  // namespace litehrnet
