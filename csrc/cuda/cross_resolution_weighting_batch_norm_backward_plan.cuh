// What the four launches of cross_resolution_weighting_batch_norm_backward pass on to one another, and the gradient of
// a batch norm, which two of them take.
#pragma once

#include "core/batch_norm.cuh"
#include "core/windows.cuh"
#include "cuda/cross_resolution_weighting_batch_norm_backward.h"

namespace litehrnet::weighting_backward {

using Branch = CrossResolutionWeightingBatchNormBackwardBranch;
using Params = CrossResolutionWeightingBatchNormBackwardParams;

// How the launches cut a branch.
struct Section {
  Windows windows;                                     // its lanes and vectors are those of the first launch
  FastDivisor norm2_parts_divisor;                     // first launch: warp = (channel, part)
  FastDivisor pieces_divisor;                          // last launch: by pieces_per_tile
  FastDivisor width_divisor, ratio_y_divisor, ratio_x_divisor;
  void* norm2_parts;                                   // NormSums [norm2_part_count][c]
  int channel_offset;                                  // in the concatenation
  int first_warp, norm2_part_count, positions_per_part;
  int first_block, vec, one_position;  // last launch: pixels of a vector; whether these always read one position
  int planes_per_block, tiles_per_plane, pieces_per_tile, pieces_per_plane;
};

// [N, C, h, w] and the like are float, double for fp64. A flat position is image h w + row w + column.
struct Plan {
  Params params;
  Section section[kMaxBranches];
  FastDivisor positions_divisor, columns_divisor;  // by h w and w
  Reductions reductions;                           // grad W1, grad W2, and those of params.aside
  void* gates;             // [N, C, h, w]
  void* pooled;            // [N, C, h, w]
  void* grad_pooled;       // [N, C, h, w], divided by the pixels of the position's window
  void* grad_logits;       // [N, C, h, w]; from the first launch to the second, of what comes out of norm2
  void* grad_normalised1;  // [N, R, h, w], of what comes out of norm1
  void* norm1_parts;       // NormSums [R][tile_blocks]
  void* w1_parts;          // [splits][R, C]
  void* w2_parts;          // [splits][C, R]
  int height, width, positions, flat_positions, channels;  // h, w, h w, N h w, C
  int warps;                                               // of the first launch
  int tiles, tile_blocks;                                  // of positions
  int splits, split_positions, row_tiles, column_tiles;    // of the matrices' gradients
  int pixel_blocks;                                        // of the last launch
};

__device__ __forceinline__ int branch_of_channel(const Plan& p, int channel) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b)
    branch += b < p.params.branches && channel >= p.section[b].channel_offset;
  return branch;
}

// Where the value of a flat position lies in a map of `channels` channels.
struct FlatPosition {
  int image, position;

  __device__ __forceinline__ FlatPosition(const Plan& p, int flat)
      : image(p.positions_divisor.divide(flat)), position(flat - image * p.positions) {}
  __device__ __forceinline__ std::int64_t offset(const Plan& p, int channel, int channels) const {
    return (static_cast<std::int64_t>(image) * channels + channel) * p.positions + position;
  }
};

// Of a channel: the sums over the batch of dn and dn n, with n the normalised values and dn the gradient of what the
// affine map makes of them. They are the gradients of the norm's bias and weight.
template <class acc>
struct alignas(2 * sizeof(acc)) NormSums {
  acc gradients, products;
};

// The gradient of what a batch norm normalises: scale (dn - mean(dn) - n mean(dn n)), without the means where its
// statistics did not depend on it.
template <class acc>
struct alignas(16) NormGradient {
  acc scale, slope, mean, offset;

  __device__ __forceinline__ acc apply(acc gradient, acc value) const {
    return scale * gradient + (slope * (value - mean) + offset);
  }
};

template <class acc>
__device__ __forceinline__ NormGradient<acc> norm_gradient(const NormalisedChannel<acc>& norm,
                                                           const NormSums<acc>& sums, const Plan& p) {
  if (!p.params.batch_statistics) return {norm.scale, 0, 0, 0};
  const acc share = norm.scale / static_cast<acc>(p.flat_positions);
  return {norm.scale, -share * norm.inverse_deviation * sums.products, norm.mean, -share * sums.gradients};
}

}  // namespace litehrnet::weighting_backward
