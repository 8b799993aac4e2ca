// cross_resolution_weighting_batch_norm: hidden = W1 pool(x)     logits = W2 relu(norm1(hidden))
//                                        y_i = x_i * upsample(sigmoid(norm2(logits)))_i, all branches i at once
//
// pool and upsample as in cross_resolution_weighting.cu. norm1 and norm2 take the statistics of the batch, all images
// and positions, or are given them. Statistics need all of what they are taken of, hence a launch each; a launch leaves
// moments of its blocks' shares ("parts"), which the blocks of the next one merge.
//
// Layout   x_i [N, c_i, H_i, W_i], planes contiguous, any image and plane stride; y_i contiguous. W1 [R, C], W2 [C, R].
//          hidden [N, R, h, w], logits [N, C, h, w]; parts of norm1, means and then squares, [R][blocks], of norm2
//          [C][shares].
//          Positions are numbered through all images: M = N h w.
// First    block = tiles of up to kMaxTile positions, at most kMaxBlocks blocks, which take turns. It pools the tile's
//          windows, warp by warp over all branches; multiplies: warp = (output, 1 or up to 4 positions), lanes along C;
//          and takes moments: warp = output, lane = position.
// Second   block = a group of 32 to 64 channels, the more the fewer blocks have to do, and one share of the positions,
//          at most kMaxParts shares. It merges norm1's parts, and goes through its share 32 positions at a time:
//          lane = position, warp = kPerWarp channels; activations and weights lie in shared memory.
// Third    where y is wanted: see cross_resolution_weighting_batch_norm_outputs.cuh.
// Traffic  the first reads x once, W1 once a tile (44 KB in the four-branch network, from L2), and writes hidden, there
//          1/60 of x; the second reads hidden once a group of channels and W2 once a share, from L2, and writes logits,
//          1/8 of x; the third reads x and writes y. Norm1's parts are 8 bytes each, 38 KB at most there, and read once
//          a block of the second launch, more than it reads of all else: hence few blocks of many channels.
// Sums     lanes, pieces and parts in a fixed order: bitwise reproducible, no atomics. Moments of the logits are taken
//          after rounding to the element type, as in PyTorch: what the norm makes of the stored logits then has mean 0
//          and variance 1, and that is what the backward pass, which reads them, takes for granted.
// Limits   C + 4 R + 3 accumulators within 48 KB of shared memory, and 4 R + 384; M and the pixels of a channel in all
//          images below 2^31.
#include "cuda/cross_resolution_weighting_batch_norm.h"

#include "core/batch_norm.cuh"
#include "core/windows.cuh"
#include "core/workspace.h"
#include "cuda/cross_resolution_weighting_batch_norm_outputs.cuh"

namespace litehrnet {
namespace {

constexpr int kThreads = 1024;    // of the first launch: pooling waits for memory, and blocks are few
constexpr int kMaxBlocks = 128;   // about the number of multiprocessors; every one is a part of norm1's statistics
constexpr int kMaxTile = 32;      // positions: a lane each, when moments are taken
constexpr int kChunk = 4;         // positions that share a weight in registers
template <int kPositions>         // pieces of a row of W1 in flight per lane, as 64 registers a thread allow
constexpr int kSteps = kPositions == 1 ? 3 : 2;
constexpr int kPerWarp = 4;       // channels of a warp of the second launch
constexpr int kMinGroup = 32, kMaxGroup = 64;       // channels of a block there
constexpr int kSecondThreads = kMaxGroup / kPerWarp * kWarpSize;
template <class scalar_t>          // blocks of a multiprocessor that registers leave room for; fp64 would spill
constexpr int kSecondOccupancy = sizeof(scalar_t) == 8 ? 1 : 2;
constexpr int kSecondBlocks = 60; // that leave few multiprocessors idle: no narrower groups for more of them
constexpr int kRows = 64;         // of W2's inputs at a time in shared memory: above the networks' 37
constexpr int kMergeLanes = 8;    // that merge norm1's parts of a channel: a sector of fp32
constexpr int kLaneParts = kMaxBlocks / kMergeLanes;
constexpr int kWarps = kThreads / kWarpSize;

struct Section {
  Windows windows;
  int first_item;      // items of 32 lanes, numbered over all branches
  int channel_offset;  // in the concatenation
};

struct Plan {
  CrossResolutionWeightingBatchNormParams params;
  Section section[kMaxBranches];
  FastDivisor tile_divisor, positions_divisor, width_divisor, rows_divisor;
  int tile, tiles, blocks, items;              // first launch: positions of a tile
  int turns, last_turns, missing;              // of all blocks; blocks with one more; positions the last tile lacks
  int shares, share_tiles, groups;             // second launch: of the positions, tiles of 32, groups of channels
  int group, rows;                             // channels of a group; W2's inputs at a time
  int height, width, positions, all_positions;  // of the last branch; of an image; of all
  int channels, pooled_stride, wide;
  void* parts1;
  void* parts2;
};

__device__ __forceinline__ int branch_of_item(const Plan& p, int item) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && item >= p.section[b].first_item;
  return branch;
}

template <class scalar_t, int kVec>
__device__ __forceinline__ void pool_item(const Plan& p, int branch, int item, int position0,
                                          acc_t<scalar_t>* pooled) {
  const Section& s = p.section[branch];
  const CrossResolutionWeightingBatchNormBranch& r = p.params.branch[branch];
  const int i = (item - s.first_item) * kWarpSize + static_cast<int>(threadIdx.x % kWarpSize);
  const int window_index = i >> s.windows.log_lanes, first_piece = i & ((1 << s.windows.log_lanes) - 1);
  const int channel = p.tile_divisor.divide(window_index), in_tile = window_index - channel * p.tile;
  const int position = position0 + in_tile;
  acc_t<scalar_t> sum = 0;
  int area = 1;
  if (channel < r.channels && position < p.all_positions) {
    const int image = p.positions_divisor.divide(position), in_image = position - image * p.positions;
    const int row = p.width_divisor.divide(in_image), column = in_image - row * p.width;
    const Window window = pooled_window(s.windows, row, column, r.height, r.width, p.height, p.width);
    area = window.rows * window.columns;
    const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + channel * r.x_plane_stride;
    for_each_piece<kVec>(s.windows, window, first_piece, r.width, [&](int offset) {
      const auto pixels = load_vec<kVec>(x + offset);
#pragma unroll
      for (int e = 0; e < kVec; ++e) sum += to_acc(pixels.v[e]);
    });
  }
  sum = lanes_sum(sum, 1 << s.windows.log_lanes);
  if (first_piece == 0 && channel < r.channels) {  // positions behind the last get zeros
    pooled[in_tile * p.pooled_stride + s.channel_offset + channel] = sum / static_cast<acc_t<scalar_t>>(area);
  }
}

// One tile of the first launch. `moments` [R] has what the block's tiles gave so far, `pooled` [tile][pooled_stride],
// `hidden` [R][tile]. kPositions is the number of positions that share a weight: 1 or kChunk.
template <class scalar_t, int kPositions>
__device__ __forceinline__ void hidden_tile(const Plan& p, int tile, Moments<acc_t<scalar_t>>* moments,
                                            acc_t<scalar_t>* pooled, acc_t<scalar_t>* hidden) {
  using acc = acc_t<scalar_t>;
  using Row = MatrixRow<acc, kWarpSize, kSteps<kPositions>>;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int position0 = tile * p.tile, channels = p.channels, outputs = p.params.hidden_channels;
  for (int item = warp; item < p.items; item += kWarps) {
    const int branch = branch_of_item(p, item);
    visit_vec<scalar_t>(p.section[branch].windows.vec, [&](auto vec) {
      pool_item<scalar_t, decltype(vec)::value>(p, branch, item, position0, pooled);
    });
  }
  const int pad = p.pooled_stride - channels;
  for (int i = thread; i < p.tile * pad; i += kThreads) pooled[i / pad * p.pooled_stride + channels + i % pad] = 0;
  __syncthreads();  // pooled values are complete

  const int chunks = ceil_div(p.tile, kPositions);
  for (int item = warp; item < outputs * chunks; item += kWarps) {
    const int output = item / chunks, first_position = (item - output * chunks) * kPositions;
    const acc* w1 = static_cast<const acc*>(p.params.w1) + static_cast<std::int64_t>(output) * channels;
    acc sum[kPositions] = {};
    for (int first = 0; first < channels; first += Row::kSpan) {
      Row row;
      row.load(w1, first, channels, p.wide, lane);
#pragma unroll
      for (int q = 0; q < kPositions; ++q) {  // positions that the last chunk lacks repeat the last one
        sum[q] += row.dot(pooled + smaller(first_position + q, p.tile - 1) * p.pooled_stride, first, channels, lane);
      }
    }
#pragma unroll
    for (int q = 0; q < kPositions; ++q) {
      const acc value = lanes_sum<kWarpSize>(sum[q]);
      if (lane == 0 && first_position + q < p.tile) hidden[output * p.tile + first_position + q] = value;
    }
  }
  __syncthreads();  // hidden values are complete; pooled values are no longer needed

  const int position = position0 + lane, image = p.positions_divisor.divide(position);
  const bool live = lane < p.tile && position < p.all_positions;
  acc* out = static_cast<acc*>(p.params.hidden) + static_cast<std::int64_t>(image) * outputs * p.positions + position -
             image * p.positions;
  for (int output = warp; output < outputs; output += kWarps) {
    const acc value = live ? hidden[output * p.tile + lane] : 0;
    if (live) out[static_cast<std::int64_t>(output) * p.positions] = value;
    if (p.parts1 == nullptr) continue;
    const acc count = static_cast<acc>(smaller(p.tile, p.all_positions - position0));
    const acc mean = lanes_sum<kWarpSize>(value) / count, deviation = live ? value - mean : 0;
    const Moments<acc> own = {count, mean, lanes_sum<kWarpSize>(deviation * deviation)};
    if (lane == 0) moments[output] = merge(moments[output], own);
  }
}

template <class scalar_t, int kPositions>
__global__ void __launch_bounds__(kThreads, 1) hidden_kernel(const __grid_constant__ Plan plan) {
  using acc = acc_t<scalar_t>;
  const int outputs = plan.params.hidden_channels, thread = static_cast<int>(threadIdx.x);
  acc* pooled = dynamic_shared<acc>();
  acc* hidden = pooled + plan.tile * plan.pooled_stride;
  auto* moments = reinterpret_cast<Moments<acc>*>(hidden + outputs * plan.tile);
  // An output's moments are one warp's affair throughout, its first lane's.
  const bool owner = thread % kWarpSize == 0 && plan.parts1 != nullptr;
  if (owner) {
    for (int output = thread / kWarpSize; output < outputs; output += kWarps) moments[output] = {0, 0, 0};
  }
  for (int tile = static_cast<int>(blockIdx.x); tile < plan.tiles; tile += plan.blocks)
    hidden_tile<scalar_t, kPositions>(plan, tile, moments, pooled, hidden);
  if (owner) {
    acc* means = static_cast<acc*>(plan.parts1) + blockIdx.x;
    acc* squares = means + outputs * plan.blocks;
    for (int output = thread / kWarpSize; output < outputs; output += kWarps) {
      means[output * plan.blocks] = moments[output].mean;
      squares[output * plan.blocks] = moments[output].squares;
    }
  }
}

// How many positions a part of norm1 has: what the turns of its block came to, none for a block that does not exist.
__device__ __forceinline__ int part_positions(const Plan& p, int part) {
  if (part >= p.blocks) return 0;
  const bool has_last = part == (p.last_turns > 0 ? p.last_turns : p.blocks) - 1;
  return (p.turns + (part < p.last_turns)) * p.tile - (has_last ? p.missing : 0);
}

// norm1's moments of channel r by each aligned group of kMergeLanes lanes, in every lane of it. The whole warp takes
// part. Every part is read once: sums are taken about the first mean, as MomentsAccumulator takes them.
template <class acc>
__device__ __forceinline__ Moments<acc> merge_norm1(const Plan& p, int r) {
  const int lane = static_cast<int>(threadIdx.x) % kMergeLanes;
  const acc* means = static_cast<const acc*>(p.parts1) + r * p.blocks;
  const acc* part_squares = means + p.params.hidden_channels * p.blocks;
  const acc pivot = means[0];
  acc sum = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < kLaneParts; ++k) {
    const int part = lane + k * kMergeLanes;
    const acc deviation = part < p.blocks ? means[part] - pivot : 0;
    const acc weighted = static_cast<acc>(part_positions(p, part)) * deviation;
    sum += weighted;
    squares += weighted * deviation + (part < p.blocks ? part_squares[part] : 0);
  }
  sum = lanes_sum<kMergeLanes>(sum);
  const acc count = static_cast<acc>(p.all_positions), mean = sum / count;
  squares = lanes_sum<kMergeLanes>(squares) - sum * mean;
  return {count, pivot + mean, squares < 0 ? 0 : squares};
}

// norm1 of all channels into shared memory, [R]. Blocks agree bit by bit; the first one stores the statistics.
template <class acc>
__device__ __forceinline__ void load_norm1(const Plan& p, NormalisedChannel<acc>* norms) {
  const auto& params = p.params;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int outputs = params.hidden_channels;
  const auto eps = static_cast<acc>(params.eps);
  if (p.parts1 == nullptr) {
    for (int r = thread; r < outputs; r += threads) norms[r] = normalised_channel(params.norm1, r, eps);
    return;
  }
#pragma unroll 1
  for (int first = thread - thread % kWarpSize; first < outputs * kMergeLanes; first += threads) {
    const int r = (first + thread % kWarpSize) / kMergeLanes;
    const Moments<acc> moments = merge_norm1<acc>(p, smaller(r, outputs - 1));
    if (r >= outputs || thread % kMergeLanes != 0) continue;
    norms[r] = normalised_channel(params.norm1, r, moments.mean, moments.squares / moments.count, eps);
    if (blockIdx.x == 0) store_statistics(params.norm1, r, moments);
  }
}

// W2's inputs from `first` on for the block's channels, [group][rows]. Neighbouring threads read neighbours, kFlight at
// a time each.
template <int kFlight, class acc>
__device__ __forceinline__ void load_weights(const Plan& p, int channel0, int first, acc* weights) {
  const int inputs = p.params.hidden_channels;
  const acc* w2 = static_cast<const acc*>(p.params.w2) + static_cast<std::int64_t>(channel0) * inputs + first;
#pragma unroll kFlight
  for (int i = static_cast<int>(threadIdx.x); i < p.group * p.rows; i += static_cast<int>(blockDim.x)) {
    const int channel = p.rows_divisor.divide(i), r = i - channel * p.rows;
    const bool exists = channel0 + channel < p.channels && first + r < inputs;
    weights[i] = exists ? w2[static_cast<std::int64_t>(channel) * inputs + r] : 0;
  }
}

template <class scalar_t>
__global__ void __launch_bounds__(kSecondThreads, kSecondOccupancy<scalar_t>)
    logits_kernel(const __grid_constant__ Plan plan) {
  using acc = acc_t<scalar_t>;
  constexpr int kElems = kVecElems<acc>;
  const Plan& p = plan;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int share = static_cast<int>(blockIdx.x) / p.groups, group = static_cast<int>(blockIdx.x) % p.groups;
  const int inputs = p.params.hidden_channels, warps = static_cast<int>(blockDim.x) / kWarpSize;
  const int channel0 = group * p.group, own_channel0 = channel0 + warp * kPerWarp;
  acc* activations = dynamic_shared<acc>();          // [rows][32 positions]
  acc* weights = activations + p.rows * kWarpSize;   // [group][rows]
  auto* norms = reinterpret_cast<NormalisedChannel<acc>*>(weights + p.rows * p.group);  // [R]
  load_weights<4>(p, channel0, 0, weights);
  load_norm1(p, norms);

  MomentsAccumulator<acc> moments[kPerWarp];
  for (int tile = share; tile < p.share_tiles; tile += p.shares) {
    const int position = tile * kWarpSize + lane, image = p.positions_divisor.divide(position);
    const bool live = position < p.all_positions;
    const int in_image = position - image * p.positions;
    const acc* hidden = static_cast<const acc*>(p.params.hidden) +
                        static_cast<std::int64_t>(image) * inputs * p.positions + in_image;
    acc sum[kPerWarp] = {};
    for (int first = 0; first < inputs; first += p.rows) {
      __syncthreads();  // norms are complete, and what was multiplied last is no longer needed
#pragma unroll 2
      for (int r = warp; r < p.rows; r += warps) {  // rows behind the last input are zero
        acc value = 0;
        if (live && first + r < inputs)
          value = norms[first + r].apply(hidden[static_cast<std::int64_t>(first + r) * p.positions]);
        activations[r * kWarpSize + lane] = value < 0 ? 0 : value;
      }
      if (inputs > p.rows && (tile > share || first > 0)) load_weights<1>(p, channel0, first, weights);
      __syncthreads();  // activations and weights are complete
#pragma unroll 1
      for (int r = 0; r < p.rows; r += kElems) {
        acc activation[kElems];
#pragma unroll
        for (int e = 0; e < kElems; ++e) activation[e] = activations[(r + e) * kWarpSize + lane];
#pragma unroll
        for (int q = 0; q < kPerWarp; ++q) {
          const auto weight = load_vec<kElems>(weights + (warp * kPerWarp + q) * p.rows + r);
#pragma unroll
          for (int e = 0; e < kElems; ++e) sum[q] += weight.v[e] * activation[e];
        }
      }
    }
    scalar_t* logits = static_cast<scalar_t*>(p.params.logits) +
                       (static_cast<std::int64_t>(image) * p.channels + own_channel0) * p.positions + in_image;
#pragma unroll
    for (int q = 0; q < kPerWarp; ++q) {
      if (!live || own_channel0 + q >= p.channels) continue;
      const scalar_t value = from_acc<scalar_t>(sum[q]);
      logits[static_cast<std::int64_t>(q) * p.positions] = value;
      moments[q].add(to_acc(value));
    }
  }
  if (p.parts2 == nullptr) return;
#pragma unroll
  for (int q = 0; q < kPerWarp; ++q) {
    const Moments<acc> own = lanes_merge(moments[q].moments(), kWarpSize);
    if (lane == 0 && own_channel0 + q < p.channels)
      static_cast<Moments<acc>*>(p.parts2)[(own_channel0 + q) * p.shares + share] = own;
  }
}

bool has_valid_sizes(const CrossResolutionWeightingBatchNormParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0 || params.hidden_channels < 1)
    return false;
  for (int b = 0; b < params.branches; ++b) {
    const CrossResolutionWeightingBatchNormBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1) return false;
    // Positions and pixels of a channel are counted in 32 bits, tiles that reach behind the last one included.
    const std::int64_t plane = static_cast<std::int64_t>(r.height) * r.width;
    if (plane > kMaxGrid || plane * larger(params.batch, 1) > kMaxGrid - kOutputVectors) return false;
  }
  return true;
}

std::size_t hidden_shared_bytes(int tile, int channels, int hidden, DType dtype) {
  return (static_cast<std::size_t>(tile) * (round_up(channels, kVectorPad) + hidden) + std::size_t{3} * hidden) *
         accumulate_size(dtype);
}

std::size_t logits_shared_bytes(const Plan& plan, int rows, DType dtype) {
  return (static_cast<std::size_t>(rows) * (kWarpSize + plan.group) +
          std::size_t{4} * plan.params.hidden_channels) * accumulate_size(dtype);
}

// All but the workspace: how the launches are cut.
Plan make_plan(const CrossResolutionWeightingBatchNormParams& params, DType dtype) {
  const CrossResolutionWeightingBatchNormBranch& last = params.branch[params.branches - 1];
  Plan plan{};
  plan.params = params;
  plan.height = last.height;
  plan.width = last.width;
  plan.positions = last.height * last.width;
  plan.all_positions = params.batch * plan.positions;
  for (int b = 0; b < params.branches; ++b) {
    plan.section[b].channel_offset = plan.channels;
    plan.channels += params.branch[b].channels;
  }
  plan.tile = smaller(ceil_div(plan.all_positions, kMaxBlocks), kMaxTile);
  while (plan.tile > 1 &&
         hidden_shared_bytes(plan.tile, plan.channels, params.hidden_channels, dtype) > kMaxSharedBytes)
    --plan.tile;
  plan.tiles = ceil_div(plan.all_positions, plan.tile);
  plan.blocks = smaller(plan.tiles, kMaxBlocks);
  plan.turns = plan.tiles / plan.blocks;
  plan.last_turns = plan.tiles % plan.blocks;
  plan.missing = static_cast<int>(static_cast<std::int64_t>(plan.tiles) * plan.tile - plan.all_positions);
  plan.share_tiles = ceil_div(plan.all_positions, kWarpSize);
  plan.shares = smaller(plan.share_tiles, kMaxParts);
  const int groups = larger(ceil_div(kSecondBlocks, plan.shares), ceil_div(plan.channels, kMaxGroup));
  plan.group = round_up(ceil_div(plan.channels, smaller(groups, ceil_div(plan.channels, kMinGroup))), kPerWarp);
  plan.groups = ceil_div(plan.channels, plan.group);
  return plan;
}

std::size_t lay_out(Plan& plan, DType dtype) {
  if (!plan.params.batch_statistics) return 0;
  Workspace workspace(plan.params.workspace);
  const std::size_t size = accumulate_size(dtype);
  plan.parts1 = workspace.reserve(static_cast<std::size_t>(plan.params.hidden_channels) * plan.blocks * 2 * size);
  plan.parts2 = workspace.reserve(static_cast<std::size_t>(plan.channels) * plan.shares * 3 * size);
  return workspace.bytes();
}

PositionGates gates_of(const Plan& plan) {
  const CrossResolutionWeightingBatchNormParams& params = plan.params;
  return {params.logits, params.norm2, plan.parts2, params.eps, plan.shares, plan.channels, plan.height, plan.width};
}

cudaError_t launch_hidden(Plan& plan, DType dtype, cudaStream_t stream) {
  const CrossResolutionWeightingBatchNormParams& params = plan.params;
  const int size = static_cast<int>(element_size(dtype)), sum_size = static_cast<int>(accumulate_size(dtype));
  plan.tile_divisor = FastDivisor::of(plan.tile);
  plan.pooled_stride = round_up(plan.channels, kVectorPad);
  plan.wide = plan.channels % (kVecBytes / sum_size) == 0 && is_aligned(params.w1, sum_size, 0, 0, kVecBytes);
  for (int b = 0; b < params.branches; ++b) {
    const CrossResolutionWeightingBatchNormBranch& r = params.branch[b];
    Section& s = plan.section[b];
    s.windows = make_windows(r.height, r.width, plan.height, plan.width, dtype, [&](int vec) {
      return is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, vec * size);
    });
    s.first_item = plan.items;
    plan.items += ceil_div((r.channels * plan.tile) << s.windows.log_lanes, kWarpSize);
  }
  const std::size_t bytes = hidden_shared_bytes(plan.tile, plan.channels, params.hidden_channels, dtype);
  if (bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  return visit_dtype(dtype, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto kernel = plan.tile == 1 ? hidden_kernel<scalar_t, 1> : hidden_kernel<scalar_t, kChunk>;
    return launch(kernel, dim3(static_cast<unsigned>(plan.blocks)), dim3(kThreads), bytes, stream, plan);
  });
}

cudaError_t launch_logits(Plan& plan, DType dtype, cudaStream_t stream) {
  const int inputs = plan.params.hidden_channels;
  int most = kRows;
  while (most > kVectorPad && logits_shared_bytes(plan, most, dtype) > kMaxSharedBytes) most -= kVectorPad;
  plan.rows = round_up(ceil_div(inputs, ceil_div(inputs, most)), kVectorPad);
  plan.rows_divisor = FastDivisor::of(plan.rows);
  const std::size_t bytes = logits_shared_bytes(plan, plan.rows, dtype);
  if (bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  return visit_dtype(dtype, [&](auto zero) {
    return launch(logits_kernel<decltype(zero)>, dim3(static_cast<unsigned>(plan.shares * plan.groups)),
                  dim3(static_cast<unsigned>(plan.group / kPerWarp * kWarpSize)), bytes, stream, plan);
  });
}

}  // namespace

std::size_t cross_resolution_weighting_batch_norm_workspace_bytes(
    const CrossResolutionWeightingBatchNormParams& params, DType dtype) {
  if (!has_valid_sizes(params) || params.batch == 0) return 0;
  Plan plan = make_plan(params, dtype);
  return lay_out(plan, dtype);
}

PositionGates cross_resolution_weighting_batch_norm_gates(const CrossResolutionWeightingBatchNormParams& params,
                                                          DType dtype) {
  if (!has_valid_sizes(params) || params.batch == 0) return {};
  Plan plan = make_plan(params, dtype);
  lay_out(plan, dtype);
  return gates_of(plan);
}

cudaError_t launch_cross_resolution_weighting_batch_norm_forward(const CrossResolutionWeightingBatchNormParams& params,
                                                                 DType dtype, cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  Plan plan = make_plan(params, dtype);
  lay_out(plan, dtype);
  plan.positions_divisor = FastDivisor::of(plan.positions);
  plan.width_divisor = FastDivisor::of(plan.width);
  cudaError_t error = launch_hidden(plan, dtype, stream);
  if (error == cudaSuccess) error = launch_logits(plan, dtype, stream);
  if (error == cudaSuccess && params.branch[0].y != nullptr)
    error = launch_outputs(params, gates_of(plan), dtype, stream);
  return error;
}

}  // namespace litehrnet
