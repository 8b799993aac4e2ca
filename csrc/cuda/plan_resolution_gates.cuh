// The plan's step ResolutionGates: gates = sigmoid(W2 relu(W1 p + b1) + b2), p = concat_i pool(x_i), all branches i at
// once
//
// pool is adaptive average pooling (PyTorch's windows) to the last branch's size h x w. x_i are planes as their readers
// see them: ReLU, then a factor, which is applied after pooling. Factors of pending gates are evaluated here, and all
// of them stored for later steps. W1 [R, C], W2 [C, R], batch norms folded; accumulation in fp32 (fp64 for fp64).
//
// Layout   x_i planes wherever they lie, each dense; gates [N, C, h, w] with any image stride.
// Mapping  block = a rectangle ("tile") of P positions of one image, and a share of its outputs. It pools their
//          windows: a window has a power of two of lanes, each with pieces of up to 16 bytes; a warp works on one
//          branch at a time. Pending gates go through their phases between the barriers of pooling
//          (core/pending_gate.cuh); whoever has a factor multiplies the pooled values with it. First matrix: warp =
//          (output, P = 1 or up to 4 positions), lanes along C. Second: 4 lanes an output, along R.
//          With one position a block latency is everything: all matrices' first weights are requested before pooling,
//          and an output's weights while those before it are used.
// Splits   at batch 1 there are 48 positions in the four-branch network for 100 to 150 multiprocessors. Of the weights
//          of a block in fp32, W1 (44 KB) and the needed half of the pending gates (51 KB) have to be complete before
//          the first output; W2 (45 KB) can be shared. Two blocks a position, each with half the outputs, fetch 118 KB
//          each rather than 141 KB, at the double rate of two multiprocessors, and go through W2 in 2 rounds of 128
//          outputs rather than 3, for pooling 9.6 KB twice. More than two blocks would be more than one a
//          multiprocessor, all with the 95 KB that cannot be shared. Storing all factors takes a block of its own per
//          image: a tile that did it besides its work would be the last one.
//          As soon as there are blocks for all multiprocessors without them, tiles are not split, and the first tile
//          of an image stores.
// Traffic  x is read once (windows that overlap: more). A block also fetches all matrices, 2 R C + the gates' elements,
//          as much as the pixels of P* positions (15 in the four-branch network). Tiles grow to that as soon as
//          kMinBlocks blocks remain.
// Sums     lanes and pieces in a fixed order: bitwise reproducible, no atomics. All blocks compute the same factors.
// Limits   C + R accumulators, and as many as the gates have channels and hidden values, within 48 KB of shared memory:
//          C + R up to about 6,000 in fp32; below 2^31 blocks.
#pragma once

#include "core/pending_gate.cuh"
#include "core/windows.cuh"
#include "cuda/plan_resolution_gates.h"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_resolution_gates {

constexpr int kMinBlocks = 96;     // about the number of multiprocessors: fewer blocks leave some of them idle
constexpr int kMaxPositions = 16;  // beyond, the matrices' share of the traffic is small and the tail of the grid grows
constexpr int kMaxSplits = 4;
constexpr int kChunk = 4;    // positions that share a weight in registers
constexpr int kSteps1 = 3;   // pieces of a row of W1 in flight per lane: 384 columns, above the networks' 300
constexpr int kLanes2 = 4;   // of an output of W2
constexpr int kSteps2 = 3;   // pieces of a row of W2 in flight per lane: 48 columns, above the networks' 37
static_assert(kMaxPositions % kChunk == 0 && kChunk <= kLanes2, "whole chunks");

// How the tile's windows in one branch are cut into warp-sized items.
struct Section {
  Windows windows;
  int first_item;      // items of 32 lanes, numbered over all branches
  int channel_offset;  // in the concatenation
};

struct Phase {
  PlanResolutionGatesParams params;
  PendingGates gates;
  Section section[kMaxBranches];
  FastDivisor positions_divisor, columns_divisor, chunks_divisor, tiles_divisor, splits_divisor;
  int rows, columns, positions;              // of a tile
  int tile_rows, tile_columns;               // tiles of an image
  int tile_blocks, splits, split_outputs;    // blocks before those that only store; outputs of a block
  int items, height, width, channels;        // height, width: of the last branch
  int gate_channels;                         // of all gates, without padding
  int pooled_stride, hidden_stride, wide1, storing;
};

// What one lane does in one item: a share of the window of `position` in `channel`.
struct Task {
  Window window;
  int channel, position, first_piece;
  bool live, in_channels;
};

__device__ __forceinline__ int branch_of_item(const Phase& p, int item) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && item >= p.section[b].first_item;
  return branch;
}

__device__ __forceinline__ Task task_of_item(const Phase& p, const Section& s, const PlaneSources& r, int item,
                                             int row0, int column0) {
  const int i = (item - s.first_item) * kWarpSize + static_cast<int>(threadIdx.x % kWarpSize);
  const int window = i >> s.windows.log_lanes;
  Task task;
  task.first_piece = i & ((1 << s.windows.log_lanes) - 1);
  task.channel = p.positions_divisor.divide(window);
  task.position = window - task.channel * p.positions;
  const int tile_row = p.columns_divisor.divide(task.position);
  const int row = row0 + tile_row, column = column0 + task.position - tile_row * p.columns;
  task.in_channels = task.channel < r.count;
  task.live = task.in_channels && row < p.height && column < p.width;
  task.window = {0, 0, 0, 0};
  if (task.live) task.window = pooled_window(s.windows, row, column, r.height, r.width, p.height, p.width);
  return task;
}

template <class scalar_t, int kVec>
__device__ __forceinline__ void pool_item(const Phase& p, int branch, int item, int image, int row0, int column0,
                                          acc_t<scalar_t>* pooled) {
  using acc = acc_t<scalar_t>;
  const Section& s = p.section[branch];
  const PlaneSources& r = p.params.branch[branch];
  const Task task = task_of_item(p, s, r, item, row0, column0);
  acc sum = 0, factor = 1;
  if (task.live) {
    const SourcePlane<scalar_t> source = source_plane<scalar_t>(r, task.channel, image);
    const scalar_t* x = source.data;
    factor = source.factor;
    const bool relu = source.relu;
    for_each_piece<kVec>(s.windows, task.window, task.first_piece, r.width, [&](int offset) {
      const auto pixels = load_vec<kVec>(x + offset);
#pragma unroll
      for (int e = 0; e < kVec; ++e) {
        const acc value = to_acc(pixels.v[e]);
        sum += relu && value < 0 ? 0 : value;
      }
    });
  }
  sum = lanes_sum(sum, 1 << s.windows.log_lanes);
  if (task.first_piece == 0 && task.in_channels) {  // positions beyond the map's edge get zeros: all are read below
    const int area = task.window.rows * task.window.columns;
    pooled[task.position * p.pooled_stride + s.channel_offset + task.channel] =
        task.live ? sum / static_cast<acc>(area) * factor : 0;
  }
}

// One block's worth of work. `shared` holds the gates' means and hidden values, then pooled values
// [positions][pooled_stride] and hidden values [positions][hidden_stride]. kPositions is the number of positions that
// share a weight: 1 or kChunk.
// A loop over blocks needs a barrier between two of them.
template <class scalar_t, int kThreads, int kPositions>
__device__ void run_tile_of(const Phase& p, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  using Row1 = MatrixRow<scalar_t, kWarpSize, kSteps1>;
  using Row2 = MatrixRow<scalar_t, kLanes2, kSteps2>;
  constexpr int kWarps = kThreads / kWarpSize, kOutputs2 = kThreads / kLanes2;  // outputs of W2 at a time
  constexpr bool kEarly = kPositions == 1;  // request weights ahead; else registers are scarce, and blocks many
  const int thread = thread_index(), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const bool only_stores = block >= p.tile_blocks;
  const int tile = kEarly ? p.splits_divisor.divide(block) : block, split = kEarly ? block - tile * p.splits : 0;
  const int image = only_stores ? block - p.tile_blocks : p.tiles_divisor.divide(tile);
  const int in_image = tile - image * p.tile_rows * p.tile_columns;
  const bool stores = only_stores || (!p.storing && in_image == 0 && split == 0);
  const int row0 = in_image / p.tile_columns * p.rows, column0 = in_image % p.tile_columns * p.columns;
  const int channels = p.channels, hidden = p.params.hidden, chunks = ceil_div(p.positions, kPositions);
  const int factors = stores ? p.gate_channels : p.params.needed;
  const auto* w1 = static_cast<const scalar_t*>(p.params.w1);
  const auto* w2 = static_cast<const scalar_t*>(p.params.w2);
  acc* gate_mean = reinterpret_cast<acc*>(shared);
  acc* gate_hidden = gate_mean + p.gates.channels;
  acc* pooled = gate_hidden + p.gates.hidden;
  acc* hidden_values = pooled + p.positions * p.pooled_stride;

  // Items are outputs x chunks, the chunks of an output in neighbouring warps.
  const auto request_row1 = [&](int item, Row1& row, acc& bias) {
    if (item >= hidden * chunks) return;
    const int output = p.chunks_divisor.divide(item);
    row.load(w1 + static_cast<std::int64_t>(output) * channels, 0, channels, p.wide1, lane);
    bias = static_cast<const acc*>(p.params.b1)[output];
  };
  const int output0 = split * p.split_outputs, outputs = smaller(p.split_outputs, channels - output0);
  const int lane2 = thread % kLanes2, slot2 = thread / kLanes2;
  const auto request_row2 = [&](int item, Row2& row, acc& bias) {
    if (item >= outputs * chunks) return;
    const int output = output0 + p.chunks_divisor.divide(item);
    row.load(w2 + static_cast<std::int64_t>(output) * p.hidden_stride, 0, hidden, true, lane2);
    bias = static_cast<const acc*>(p.params.b2)[output];
  };
  Row1 next1;
  Row2 next2;
  acc next_bias1 = 0, next_bias2 = 0;
  GateWeights<scalar_t, kEarly> gate_weights;
  if constexpr (kTileLoop) {
    next1 = {};
    next2 = {};
    gate_weights = {};
  }
  const auto number_of = [&](int u) { return p.params.gated[2 * u]; };
  if constexpr (kEarly) {
    request_gate_weights(p.gates, factors, number_of, gate_weights);
    if (!only_stores) {
      request_row1(warp, next1, next_bias1);
      request_row2(slot2, next2, next_bias2);
    }
  }

  if (!only_stores) {
#pragma unroll 1
    for (int item = warp; item < p.items; item += kWarps) {
      const int branch = branch_of_item(p, item);
      visit_vec<scalar_t>(p.section[branch].windows.vec, [&](auto vec) {
        pool_item<scalar_t, decltype(vec)::value>(p, branch, item, image, row0, column0, pooled);
      });
    }
    const int pad = p.pooled_stride - channels, hidden_pad = p.hidden_stride - hidden;
#pragma unroll 1
    for (int i = thread; i < p.positions * pad; i += kThreads)
      pooled[i / pad * p.pooled_stride + channels + i % pad] = 0;
#pragma unroll 1
    for (int i = thread; i < p.positions * hidden_pad; i += kThreads)
      hidden_values[i / hidden_pad * p.hidden_stride + hidden + i % hidden_pad] = 0;
  }
  if (p.gates.count > 0) {
    compute_gate_means<scalar_t, kThreads>(p.gates, image, gate_mean);
    __syncthreads();  // means are complete
    compute_gate_hidden<scalar_t, kThreads, kEarly>(p.gates, gate_mean, gate_weights, gate_hidden);
    __syncthreads();  // the gates' hidden values are complete, and so are pooled values
    compute_gate_factors<scalar_t, kThreads, kEarly>(
        p.gates, image, factors, number_of, gate_hidden, gate_weights, stores,
        [&](int u, int, acc factor, int part) {
          const int source = p.params.gated[2 * u + 1];
          if (source < 0 || only_stores) return;
#pragma unroll 1
          for (int q = part; q < p.positions; q += kGateLanes2) pooled[q * p.pooled_stride + source] *= factor;
        });
  }
  if (only_stores) return;
  __syncthreads();  // pooled values are complete, with their factors

#pragma unroll 1
  for (int item = warp; item < hidden * chunks; item += kWarps) {
    Row1 row;
    if constexpr (kEarly || kTileLoop) row = next1;
    acc bias = next_bias1;
    request_row1(kEarly ? item + kWarps : item, kEarly ? next1 : row, kEarly ? next_bias1 : bias);
    const int output = p.chunks_divisor.divide(item), position0 = (item - output * chunks) * kPositions;
    acc sum[kPositions] = {};
#pragma unroll 1
    for (int first = 0; first < channels; first += Row1::kSpan) {
      if (first > 0) row.load(w1 + static_cast<std::int64_t>(output) * channels, first, channels, p.wide1, lane);
#pragma unroll
      for (int q = 0; q < kPositions; ++q) {  // positions that the last chunk lacks repeat the last one
        sum[q] += row.dot(pooled + smaller(position0 + q, p.positions - 1) * p.pooled_stride, first, channels, lane);
      }
    }
#pragma unroll
    for (int q = 0; q < kPositions; ++q) {
      const acc value = lanes_sum<kWarpSize>(sum[q]) + bias;
      if (lane == 0 && position0 + q < p.positions)
        hidden_values[(position0 + q) * p.hidden_stride + output] = value < 0 ? 0 : value;
    }
  }
  __syncthreads();  // hidden values are complete

  scalar_t* out = static_cast<scalar_t*>(p.params.output.data) + image * p.params.output.image_stride;
#pragma unroll 1
  for (int item0 = 0; item0 < outputs * chunks; item0 += kOutputs2) {
    const int item = item0 + slot2;
    const bool live = item < outputs * chunks;
    Row2 row;
    if constexpr (kEarly || kTileLoop) row = next2;
    acc bias = next_bias2;
    request_row2(kEarly ? item + kOutputs2 : item, kEarly ? next2 : row, kEarly ? next_bias2 : bias);
    const int index = p.chunks_divisor.divide(item), output = output0 + index;
    const int position0 = (item - index * chunks) * kPositions;
    acc sum[kPositions] = {};
    if (live) {
#pragma unroll 1
      for (int first = 0; first < hidden; first += Row2::kSpan) {
        if (first > 0) row.load(w2 + static_cast<std::int64_t>(output) * p.hidden_stride, first, hidden, true, lane2);
#pragma unroll
        for (int q = 0; q < kPositions; ++q) {
          sum[q] += row.dot(hidden_values + smaller(position0 + q, p.positions - 1) * p.hidden_stride, first, hidden,
                            lane2);
        }
      }
    }
    acc value = 0;  // lane q of an output keeps position q
#pragma unroll
    for (int q = 0; q < kPositions; ++q) {
      const acc total = lanes_sum<kLanes2>(sum[q]);
      if (lane2 == q) value = total;
    }
    const int position = position0 + lane2, tile_row = p.columns_divisor.divide(position);
    const int row_out = row0 + tile_row, column_out = column0 + position - tile_row * p.columns;
    if (live && lane2 < kPositions && position < p.positions && row_out < p.height && column_out < p.width) {
      out[static_cast<std::int64_t>(output) * p.params.output.plane_stride + row_out * p.width + column_out] =
          from_acc<scalar_t>(sigmoid(value + bias));
    }
  }
}


template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  if (p.positions == 1) {
    run_tile_of<scalar_t, kThreads, 1>(p, block, shared);
  } else {
    run_tile_of<scalar_t, kThreads, kChunk>(p, block, shared);
  }
}

// The size of equal parts of `length` that is nearest to `part` and at most `most`.
inline int nearest_split(int length, int part, int most) {
  const int nearest = ceil_div(length, larger((length + part / 2) / part, 1));
  return nearest <= most ? nearest : ceil_div(length, ceil_div(length, part));
}

inline int total_channels(const PlanResolutionGatesParams& params) {
  int channels = 0;
  for (int b = 0; b < params.branches; ++b) channels += params.branch[b].count;
  return channels;
}

inline std::size_t shared_bytes(const PlanResolutionGatesParams& params, int positions, DType dtype) {
  std::size_t values = static_cast<std::size_t>(positions) *
                       (round_up(total_channels(params), kVectorPad) + round_up(params.hidden, kVectorPad));
  for (int g = 0; g < params.gates; ++g)
    values += round_up(params.gate[g].channels, kVectorPad) + round_up(params.gate[g].hidden, kVectorPad);
  return values * accumulate_size(dtype);
}

inline bool is_valid(const PlanResolutionGatesParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.hidden < 1) return false;
  if (params.batch < 0 || params.vec < 1) return false;
  if (!are_valid(params.gate, params.gates) || params.needed < 0) return false;
  for (int b = 0; b < params.branches; ++b) {
    const PlaneSources& r = params.branch[b];
    if (r.count < 1 || r.height < 1 || r.width < 1) return false;
    if (static_cast<std::int64_t>(r.height) * r.width > kMaxGrid) return false;  // offsets in a plane have 32 bits
  }
  const PlaneSources& last = params.branch[params.branches - 1];
  const PlaneTarget& out = params.output;
  return out.height == last.height && out.width == last.width && out.count == total_channels(params);
}

inline PlanResolutionGatesGeometry make_geometry(const PlanResolutionGatesParams& params, DType dtype, int threads) {
  const PlaneSources& last = params.branch[params.branches - 1];
  const int channels = total_channels(params);
  const std::int64_t positions_per_image = static_cast<std::int64_t>(last.height) * last.width;
  std::int64_t pixels = 0, weights = 2 * static_cast<std::int64_t>(params.hidden) * channels;
  for (int b = 0; b < params.branches; ++b)
    pixels += static_cast<std::int64_t>(params.branch[b].count) * params.branch[b].height * params.branch[b].width;
  for (int g = 0; g < params.gates; ++g)
    weights += 2 * static_cast<std::int64_t>(params.gate[g].channels) * params.gate[g].hidden;
  const std::int64_t balanced = ceil_div(weights, larger<std::int64_t>(pixels / positions_per_image, 1));  // P*
  const std::int64_t affordable = larger<std::int64_t>(positions_per_image * params.batch / kMinBlocks, 1);
  int most = kMaxPositions;
  while (most > 1 && shared_bytes(params, most, dtype) > kMaxSharedBytes) --most;
  const int positions = static_cast<int>(smaller(smaller(balanced, affordable), static_cast<std::int64_t>(most)));

  PlanResolutionGatesGeometry g{};
  // Tiles are parts of a row of positions, or whole rows; of one size as far as possible, the nearest to `positions`.
  g.columns = nearest_split(last.width, positions, most);
  g.rows = nearest_split(last.height, larger(positions / g.columns, 1), most / g.columns);
  const std::int64_t tiles =
      static_cast<std::int64_t>(params.batch) * ceil_div(last.height, g.rows) * ceil_div(last.width, g.columns);
  const std::int64_t idle = kMinBlocks / larger<std::int64_t>(tiles, 1);  // none where positions share weights
  const int rounds = ceil_div(channels, threads / kLanes2), splits = smaller(rounds, kMaxSplits);
  g.splits = g.rows * g.columns > 1 || idle < 2 ? 1 : static_cast<int>(smaller<std::int64_t>(idle, splits));
  g.storing = params.gates > 0 && tiles <= kMinBlocks;
  g.blocks = tiles * g.splits + (g.storing ? params.batch : 0);
  g.shared_bytes = shared_bytes(params, g.rows * g.columns, dtype);
  return g;
}

inline cudaError_t make_phase(const PlanResolutionGatesParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  if (!is_valid(params)) return cudaErrorInvalidValue;
  shape = {};
  if (params.batch == 0) return cudaSuccess;
  const PlaneSources& last = params.branch[params.branches - 1];
  const PlanResolutionGatesGeometry g = make_geometry(params, dtype, threads);
  const int size = static_cast<int>(element_size(dtype)), row_elems = size == 8 ? 2 : 4;
  if (g.shared_bytes > kMaxSharedBytes || g.blocks > kMaxGrid || !is_aligned(params.w2, size, 0, 0, row_elems * size))
    return cudaErrorInvalidValue;

  phase = {};
  phase.params = params;
  phase.gates = make_pending_gates(params.gate, params.gates, dtype);
  for (int i = 0; i < params.gates; ++i) phase.gate_channels += params.gate[i].channels;
  if (params.needed > phase.gate_channels) return cudaErrorInvalidValue;
  phase.rows = g.rows;
  phase.columns = g.columns;
  phase.positions = g.rows * g.columns;
  phase.tile_rows = ceil_div(last.height, g.rows);
  phase.tile_columns = ceil_div(last.width, g.columns);
  phase.height = last.height;
  phase.width = last.width;
  for (int b = 0; b < params.branches; ++b) {
    const PlaneSources& r = params.branch[b];
    Section& s = phase.section[b];
    s.windows = make_windows(r.height, r.width, last.height, last.width, dtype,
                             [&](int vec) { return vec <= params.vec; });
    s.first_item = phase.items;
    s.channel_offset = phase.channels;
    phase.items += ceil_div((r.count * phase.positions) << s.windows.log_lanes, kWarpSize);
    phase.channels += r.count;
  }
  phase.splits = g.splits;
  phase.split_outputs = ceil_div(phase.channels, g.splits);
  phase.storing = g.storing;
  phase.tile_blocks = static_cast<int>(g.blocks) - (g.storing ? params.batch : 0);
  phase.positions_divisor = FastDivisor::of(phase.positions);
  phase.columns_divisor = FastDivisor::of(phase.columns);
  phase.chunks_divisor = FastDivisor::of(ceil_div(phase.positions, phase.positions == 1 ? 1 : kChunk));
  phase.tiles_divisor = FastDivisor::of(phase.tile_rows * phase.tile_columns);
  phase.splits_divisor = FastDivisor::of(phase.splits);
  phase.pooled_stride = round_up(phase.channels, kVectorPad);
  phase.hidden_stride = round_up(params.hidden, kVectorPad);
  phase.wide1 = phase.channels % row_elems == 0 && is_aligned(params.w1, size, 0, 0, row_elems * size);

  shape = {static_cast<unsigned>(g.blocks), g.shared_bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_resolution_gates
