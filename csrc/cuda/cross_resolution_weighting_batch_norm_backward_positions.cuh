// The two launches of cross_resolution_weighting_batch_norm_backward between the windows: matrices, at every position.
#pragma once

#include "cuda/cross_resolution_weighting_batch_norm_backward_plan.cuh"

namespace litehrnet::weighting_backward {

constexpr int kTileThreads = 512;
constexpr int kTileWarps = kTileThreads / kWarpSize;
constexpr int kTilePositions = 8;  // flat positions of a tile: a sector of fp32
// Inputs of a matrix whose coefficients lie in shared memory at once; more are taken in turns.
template <class acc>
constexpr int kInputs = 2048 / static_cast<int>(sizeof(acc));
template <class acc>
constexpr std::size_t kTileBytes =
    kInputs<acc> * sizeof(NormGradient<acc>) + sizeof(acc) * kTilePositions * larger(kInputs<acc>, kTileThreads);

template <class acc>
constexpr int kWeights = sizeof(acc) == 8 ? 2 : 4;  // of a thread in flight

// The sums over i of weights[i][o] inputs[i][m], for outputs o and the tiles of flat positions m of one of `blocks`
// blocks. Inputs are the gradients of what a batch norm normalised:
//   coefficients(i, last_outputs)               gives them, in a thread or, with kByWarp, in all lanes of a warp
//   input(i, m, coefficients, last_outputs)     an input; the last time for it with `last_outputs`
//   output(o, m, sum, live, turn, first_tile)   takes a sum; called by whole warps, in which kTilePositions lanes share
//                                               an output. Lanes that are not `live` have none.
//
// Thread = (output, some of the inputs), so that neighbouring threads read neighbouring weights, each for all positions
// of the tile. The sums over the inputs meet in shared memory, from which they are taken with positions as neighbours.
struct Turn {
  bool first, last;  // of those that take the inputs of one output
};

template <class acc, bool kByWarp, class Coefficients, class Input, class Output>
__device__ __forceinline__ void multiply(const Plan& p, const acc* weights, int inputs, int outputs, int block,
                                         int blocks, unsigned char* shared, Coefficients coefficients, Input input,
                                         Output output) {
  const int thread = static_cast<int>(threadIdx.x);
  auto* const coefficient = reinterpret_cast<NormGradient<acc>*>(shared);
  auto* const values = reinterpret_cast<acc*>(coefficient + kInputs<acc>);  // [inputs][positions], then sums
  for (int output0 = 0; output0 < outputs; output0 += kTileThreads) {
    const int width = smaller(kTileThreads, outputs - output0), groups = kTileThreads / width;
    const int group = thread / width, mine = thread - group * width;
    for (int input0 = 0; input0 < inputs; input0 += kInputs<acc>) {
      const int count = smaller(kInputs<acc>, inputs - input0);
      const bool last_outputs = output0 + width == outputs;
      const Turn turn = {input0 == 0, input0 + count == inputs};
      if constexpr (kByWarp) {
        for (int i = thread / kWarpSize; i < count; i += kTileWarps) {
          const NormGradient<acc> value = coefficients(input0 + i, last_outputs);
          if (thread % kWarpSize == 0) coefficient[i] = value;
        }
      } else {
        for (int i = thread; i < count; i += kTileThreads) coefficient[i] = coefficients(input0 + i, last_outputs);
      }
      __syncthreads();  // coefficients are complete
      for (int tile = block; tile < p.tiles; tile += blocks) {
        for (int item = thread; item < count * kTilePositions; item += kTileThreads) {
          const int i = item / kTilePositions, flat = tile * kTilePositions + item % kTilePositions;
          values[item] = 0;
          if (flat < p.flat_positions)
            values[item] = input(input0 + i, FlatPosition(p, flat), coefficient[i], last_outputs);
        }
        __syncthreads();  // inputs are complete
        acc sum[kTilePositions] = {};
        if (group < groups) {
          const acc* const column = weights + input0 * outputs + output0 + mine;
#pragma unroll kWeights<acc>
          for (int i = group; i < count; i += groups) {
            const acc weight = column[i * outputs];
#pragma unroll
            for (int t = 0; t < kTilePositions; ++t) sum[t] += weight * values[i * kTilePositions + t];
          }
        }
        __syncthreads();  // inputs are no longer needed, sums take their place
        if (group < groups) {
#pragma unroll
          for (int t = 0; t < kTilePositions; ++t) values[thread * kTilePositions + t] = sum[t];
        }
        __syncthreads();  // sums are complete
        for (int item = thread; item < round_up(width * kTilePositions, kWarpSize); item += kTileThreads) {
          const int flat = tile * kTilePositions + item % kTilePositions;
          const bool live = item < width * kTilePositions && flat < p.flat_positions;
          acc total = 0;
          for (int g = 0; live && g < groups; ++g) total += values[g * width * kTilePositions + item];
          output(output0 + item / kTilePositions, FlatPosition(p, live ? flat : 0), total, live, turn, tile == block);
        }
        __syncthreads();  // sums are no longer needed, inputs take their place
      }
    }
  }
}

// The gradient of norm2 for one of its channels, by one thread.
template <class acc>
__device__ __forceinline__ NormGradient<acc> norm2_gradient(const Plan& p, int channel, bool store) {
  const int branch = branch_of_channel(p, channel);
  const Section& s = p.section[branch];
  const int channels = p.params.branch[branch].channels;
  const auto* parts = static_cast<const NormSums<acc>*>(s.norm2_parts) + channel - s.channel_offset;
  NormSums<acc> sums = {0, 0};
#pragma unroll 8
  for (int t = 0; t < s.norm2_part_count; ++t) {
    const NormSums<acc> part = parts[t * channels];
    sums.gradients += part.gradients;
    sums.products += part.products;
  }
  if (store) {
    static_cast<acc*>(p.params.grad_norm2_bias)[channel] = sums.gradients;
    static_cast<acc*>(p.params.grad_norm2_weight)[channel] = sums.products;
  }
  return norm_gradient(normalised_channel(p.params.norm2, channel, static_cast<acc>(p.params.eps)), sums, p);
}

// The same of norm1, by all lanes of a warp.
template <class acc>
__device__ __forceinline__ NormGradient<acc> norm1_gradient(const Plan& p, int channel, bool store) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const auto* parts =
      static_cast<const NormSums<acc>*>(p.norm1_parts) + static_cast<std::int64_t>(channel) * p.tile_blocks;
  NormSums<acc> sums = {0, 0};
#pragma unroll 4
  for (int t = lane; t < p.tile_blocks; t += kWarpSize) {
    const NormSums<acc> part = parts[t];
    sums.gradients += part.gradients;
    sums.products += part.products;
  }
  sums = {lanes_sum<kWarpSize>(sums.gradients), lanes_sum<kWarpSize>(sums.products)};
  if (store && lane == 0) {
    static_cast<acc*>(p.params.grad_norm1_bias)[channel] = sums.gradients;
    static_cast<acc*>(p.params.grad_norm1_weight)[channel] = sums.products;
  }
  return norm_gradient(normalised_channel(p.params.norm1, channel, static_cast<acc>(p.params.eps)), sums, p);
}

// Second launch: d logits, and W2^T d logits where relu let the hidden values pass; parts of norm1's sums.
template <class scalar_t>
__device__ void hidden_gradients(const Plan& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const int channels = p.channels, hidden = p.params.hidden_channels, blocks = p.tile_blocks;
  const auto* logits = static_cast<const scalar_t*>(p.params.logits);
  auto* grad_logits = static_cast<acc*>(p.grad_logits);
  auto* grad_normalised = static_cast<acc*>(p.grad_normalised1);
  multiply<acc, false>(
      p, static_cast<const acc*>(p.params.w2), channels, hidden, block, blocks, shared,
      [&](int c, bool last_outputs) { return norm2_gradient<acc>(p, c, last_outputs && block == 0); },
      [&](int c, FlatPosition at, const NormGradient<acc>& coefficient, bool last_outputs) {
        const std::int64_t offset = at.offset(p, c, channels);
        const acc gradient = coefficient.apply(grad_logits[offset], to_acc(logits[offset]));
        if (last_outputs) grad_logits[offset] = gradient;  // nobody else reads it in this launch
        return gradient;
      },
      [&](int r, FlatPosition at, acc sum, bool live, Turn turn, bool first_tile) {
        const std::int64_t offset = at.offset(p, r, hidden);
        NormSums<acc> sums = {0, 0};
        if (live) {
          if (!turn.first) sum += grad_normalised[offset];
          if (turn.last) {
            const auto norm = normalised_channel(p.params.norm1, r, static_cast<acc>(p.params.eps));
            const acc value = static_cast<const acc*>(p.params.hidden)[offset];
            sum = norm.apply(value) <= 0 ? 0 : sum;
            sums = {sum, sum * norm.normalised(value)};
          }
          grad_normalised[offset] = sum;
        }
        if (!turn.last) return;
        sums = {lanes_sum<kTilePositions>(sums.gradients), lanes_sum<kTilePositions>(sums.products)};
        if (threadIdx.x % kTilePositions != 0 || r >= hidden) return;
        auto& part = static_cast<NormSums<acc>*>(p.norm1_parts)[static_cast<std::int64_t>(r) * blocks + block];
        part = first_tile ? sums : NormSums<acc>{part.gradients + sums.gradients, part.products + sums.products};
      });
}

// Third launch, first blocks: d hidden, and W1^T d hidden over the pixels of the pooled window.
template <class scalar_t>
__device__ void pooled_gradients(const Plan& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const int channels = p.channels, hidden = p.params.hidden_channels;
  multiply<acc, true>(
      p, static_cast<const acc*>(p.params.w1), hidden, channels, block, p.tile_blocks, shared,
      [&](int r, bool last_outputs) { return norm1_gradient<acc>(p, r, last_outputs && block == 0); },
      [&](int r, FlatPosition at, const NormGradient<acc>& coefficient, bool) {
        const std::int64_t offset = at.offset(p, r, hidden);
        return coefficient.apply(static_cast<const acc*>(p.grad_normalised1)[offset],
                                 static_cast<const acc*>(p.params.hidden)[offset]);
      },
      [&](int c, FlatPosition at, acc sum, bool live, Turn turn, bool) {
        if (!live) return;
        acc& target = static_cast<acc*>(p.grad_pooled)[at.offset(p, c, channels)];
        if (!turn.first) sum += target;
        if (turn.last) {
          const int branch = branch_of_channel(p, c);
          const Branch& r = p.params.branch[branch];
          const int row = p.columns_divisor.divide(at.position), column = at.position - row * p.width;
          const Window window =
              pooled_window(p.section[branch].windows, row, column, r.height, r.width, p.height, p.width);
          sum /= static_cast<acc>(window.rows * window.columns);
        }
        target = sum;
      });
}

// Third launch, other blocks: a tile of rows x columns (hidden channels x channels) of a matrix's gradient, summed over
// a part of the flat positions. Thread = a column and four rows.
constexpr int kMatrixRows = kTileWarps, kMatrixColumns = 128, kMatrixDepth = kWarpSize;
constexpr int kThreadRows = kMatrixRows * kMatrixColumns / kTileThreads;
constexpr int kRowStride = kMatrixRows + 4, kColumnStride = kMatrixColumns + 1;  // pads keep banks apart
template <class acc>
constexpr std::size_t kMatrixBytes = sizeof(acc) * kMatrixDepth * (kRowStride + kColumnStride);
static_assert(kMatrixRows <= kMatrixDepth, "a tile fits where columns were");
static_assert(kTileThreads % kMatrixColumns == 0 && kThreadRows == 4 && kRowStride % 4 == 0, "whole vectors");

template <class scalar_t>
__device__ void matrix_gradients(const Plan& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  constexpr int kVec = kVecElems<acc> < kThreadRows ? kVecElems<acc> : kThreadRows;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int channels = p.channels, hidden = p.params.hidden_channels;
  const int column_tile = block % p.column_tiles, row_tile = block / p.column_tiles % p.row_tiles;
  const int rest = block / p.column_tiles / p.row_tiles, split = rest % p.splits;
  const bool first_matrix = rest < p.splits;
  const int row0 = row_tile * kMatrixRows, column0 = column_tile * kMatrixColumns;
  auto* const rows = reinterpret_cast<acc*>(shared);            // [depth][kRowStride]: d hidden or hidden activations
  auto* const columns = rows + kMatrixDepth * kRowStride;       // [depth][kColumnStride]: pooled or d logits
  const acc* const column_values = static_cast<const acc*>(first_matrix ? p.pooled : p.grad_logits);
  const auto* hidden_values = static_cast<const acc*>(p.params.hidden);

  const int row = row0 + warp;  // that the warp reads
  NormGradient<acc> gradient = {0, 0, 0, 0};
  NormalisedChannel<acc> norm = {0, 0, 0, 0};
  if (row < hidden && first_matrix) gradient = norm1_gradient<acc>(p, row, false);
  if (row < hidden && !first_matrix) norm = normalised_channel(p.params.norm1, row, static_cast<acc>(p.params.eps));

  const int mine = thread % kMatrixColumns, my_rows = thread / kMatrixColumns * kThreadRows;
  acc sum[kThreadRows] = {};
  const int end = smaller(p.flat_positions, (split + 1) * p.split_positions);
  for (int first = split * p.split_positions; first < end; first += kMatrixDepth) {
    const bool live = first + lane < end;
    const FlatPosition at(p, live ? first + lane : first);
    acc value = 0;
    if (live && row < hidden) {
      const std::int64_t offset = at.offset(p, row, hidden);
      value = hidden_values[offset];
      if (first_matrix) {
        value = gradient.apply(static_cast<const acc*>(p.grad_normalised1)[offset], value);
      } else {
        value = norm.apply(value);
        value = value < 0 ? 0 : value;
      }
    }
    rows[lane * kRowStride + warp] = value;
#pragma unroll
    for (int c = warp; c < kMatrixColumns; c += kTileWarps) {
      columns[lane * kColumnStride + c] =
          live && column0 + c < channels ? column_values[at.offset(p, column0 + c, channels)] : 0;
    }
    __syncthreads();  // rows and columns are complete
#pragma unroll 4
    for (int k = 0; k < kMatrixDepth; ++k) {
      const acc factor = columns[k * kColumnStride + mine];
#pragma unroll
      for (int i = 0; i < kThreadRows; i += kVec) {
        const auto factors = load_vec<kVec>(rows + k * kRowStride + my_rows + i);
#pragma unroll
        for (int e = 0; e < kVec; ++e) sum[i + e] += factors.v[e] * factor;
      }
    }
    __syncthreads();  // rows and columns are no longer needed
  }
  acc* const parts = static_cast<acc*>(first_matrix ? p.w1_parts : p.w2_parts) +
                     static_cast<std::int64_t>(split) * hidden * channels;
  if (first_matrix) {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      const int r = row0 + my_rows + i, c = column0 + mine;
      if (r < hidden && c < channels) parts[r * channels + c] = sum[i];
    }
    return;
  }
  // Grad W2 is [C, R]: the tile is transposed, so that neighbouring threads write neighbours.
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) columns[(my_rows + i) * kColumnStride + mine] = sum[i];
  __syncthreads();  // the tile is complete
  for (int item = thread; item < kMatrixRows * kMatrixColumns; item += kTileThreads) {
    const int r = item % kMatrixRows, c = item / kMatrixRows;
    if (row0 + r < hidden && column0 + c < channels)
      parts[(column0 + c) * hidden + row0 + r] = columns[r * kColumnStride + c];
  }
}

}  // namespace litehrnet::weighting_backward
