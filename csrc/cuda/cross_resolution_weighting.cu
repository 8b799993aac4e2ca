// cross_resolution_weighting: y_i = x_i * upsample(sigmoid(W2 relu(W1 pool(x) + b1) + b2))_i, all branches i at once
//
// pool(x) is every branch pooled to the last branch's size h x w (adaptive average, PyTorch's windows) and concatenated
// to C channels; upsample copies the nearest position (PyTorch's rounding). W1 [R, C], W2 [C, R], batch norms folded;
// accumulation in fp32 (fp64 for fp64).
//
// Layout   x_i, y_i [N, c_i, H_i, W_i], planes contiguous, any image and plane stride; W1 [R, C], W2 transposed [R, C].
// Mapping  block = a rectangle ("tile") of P positions of one image: it pools their windows, computes their gates, and
//          weights the pixels that read them. No block needs another: where sizes divide, the pixels that a position
//          pools are those that it weights; elsewhere windows overlap, so a block reads its windows, then its own
//          pixels, each of which belongs to one position.
//          Pixels: a window has a power of two of lanes, each with pieces of up to 16 bytes (what divides a window's
//          row); a warp works on one branch at a time, the warps of a block on all branches at once.
//          First matrix: warp = (output, P = 1 or up to 4 positions), lanes along C. Second: thread = the same.
//          With one position a block latency is everything: the first weights of both matrices are requested before
//          pooling, and a row of the first while the one before it is used.
// Traffic  x is read once and y written once; the second reading of x, to weight it, hits L1 (9.6 KB a position in the
//          four-branch network in fp32). A block also fetches both matrices, 2 R C elements (89 KB there), as much as
//          the pixels, read and written, of P* = 2 R C / (2 sum_i c_i H_i W_i / (h w)) positions (five there). Tiles
//          grow to P* as soon as kMinBlocks blocks remain. With fewer blocks (batch 1: 48 of one position)
//          multiprocessors would idle; the matrices then come from L2, and once from memory.
// Sums     lanes and pieces in a fixed order: bitwise reproducible, no atomics.
// Limits   C + R + 6 accumulators within 48 KB of shared memory: C + R up to about 12,000 in fp32; below 2^31 tiles.
#include "core/reduce.cuh"
#include "core/sigmoid.cuh"
#include "core/windows.cuh"
#include "cuda/cross_resolution_weighting.h"

namespace litehrnet {
namespace {

constexpr int kThreads = 512;      // at batch 1 blocks are fewer than multiprocessors: each hides latency by itself
constexpr int kMinBlocks = 96;     // about the number of multiprocessors: fewer blocks leave some of them idle
constexpr int kTilePixels = 2048;  // elements of all branches worth a block: one 16-byte fp32 vector per thread
constexpr int kMaxPositions = 16;  // beyond, the matrices' share of the traffic is small and the tail of the grid grows
constexpr int kChunk = 4;          // positions that share a weight in registers
constexpr int kSteps = 3;          // pieces of a row of W1 in flight per lane: 384 channels, above the networks' 300
constexpr int kManyWeights = 16;   // weights of W2 in flight per thread with one position a block
constexpr int kFewWeights = 6;     // with more positions, whose sums need the registers
constexpr int kWarps = kThreads / kWarpSize;
static_assert(kThreads % kWarpSize == 0 && kMaxPositions % kChunk == 0, "whole warps, whole chunks");

// How the tile's windows in one branch are cut into warp-sized items.
struct Section {
  Windows windows;
  int first_item;      // items of 32 lanes, numbered over all branches
  int channel_offset;  // in the concatenation
};

struct Plan {
  CrossResolutionWeightingParams params;
  Section section[kMaxBranches];
  FastDivisor positions_divisor, columns_divisor, channels_divisor;
  int rows, columns, positions;        // of a tile
  int tile_rows, tile_columns;         // tiles of an image
  int items, height, width, channels;  // height, width: of the last branch
  int pooled_stride, hidden_stride, wide;
};

// What one lane does in one item: a share of the window of `position` in `channel`.
struct Task {
  Window window;
  int channel, position, first_piece;
  bool live, in_channels;
};

__device__ __forceinline__ int branch_of_item(const Plan& p, int item) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && item >= p.section[b].first_item;
  return branch;
}

// The task of this lane; `weighting` asks for the pixels that read the position rather than those that it pools.
__device__ __forceinline__ Task task_of_item(const Plan& p, const Section& s, const CrossResolutionWeightingBranch& r,
                                             int item, int row0, int column0, bool weighting) {
  const int i = (item - s.first_item) * kWarpSize + static_cast<int>(threadIdx.x % kWarpSize);
  const int window = i >> s.windows.log_lanes;
  Task task;
  task.first_piece = i & ((1 << s.windows.log_lanes) - 1);
  task.channel = p.positions_divisor.divide(window);
  task.position = window - task.channel * p.positions;
  const int tile_row = p.columns_divisor.divide(task.position);
  const int row = row0 + tile_row, column = column0 + task.position - tile_row * p.columns;
  task.in_channels = task.channel < r.channels;
  task.live = task.in_channels && row < p.height && column < p.width;
  task.window = {0, 0, 0, 0};
  if (!task.live) return task;
  task.window = weighting ? reading_window(s.windows, row, column, r.height, r.width, p.height, p.width)
                          : pooled_window(s.windows, row, column, r.height, r.width, p.height, p.width);
  return task;
}

template <class scalar_t, int kVec>
__device__ __forceinline__ void pool_item(const Plan& p, int branch, int item, int image, int row0, int column0,
                                          acc_t<scalar_t>* pooled) {
  const Section& s = p.section[branch];
  const CrossResolutionWeightingBranch& r = p.params.branch[branch];
  const Task task = task_of_item(p, s, r, item, row0, column0, false);
  const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + task.channel * r.x_plane_stride;
  acc_t<scalar_t> sum = 0;
  for_each_piece<kVec>(s.windows, task.window, task.first_piece, r.width, [&](int offset) {
    const auto pixels = load_vec<kVec>(x + offset);
#pragma unroll
    for (int e = 0; e < kVec; ++e) sum += to_acc(pixels.v[e]);
  });
  sum = lanes_sum(sum, 1 << s.windows.log_lanes);
  if (task.first_piece == 0 && task.in_channels) {  // positions beyond the map's edge get zeros: all are read below
    const int area = task.window.rows * task.window.columns;
    pooled[task.position * p.pooled_stride + s.channel_offset + task.channel] =
        task.live ? sum / static_cast<acc_t<scalar_t>>(area) : 0;
  }
}

template <class scalar_t, int kVec>
__device__ __forceinline__ void weight_item(const Plan& p, int branch, int item, int image, int row0, int column0,
                                            const acc_t<scalar_t>* gates) {
  const Section& s = p.section[branch];
  const CrossResolutionWeightingBranch& r = p.params.branch[branch];
  const Task task = task_of_item(p, s, r, item, row0, column0, true);
  if (!task.live) return;
  const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + task.channel * r.x_plane_stride;
  scalar_t* y = static_cast<scalar_t*>(r.y) + image * r.y_image_stride + task.channel * r.y_plane_stride;
  const acc_t<scalar_t> gate = gates[task.position * p.pooled_stride + s.channel_offset + task.channel];
  for_each_piece<kVec>(s.windows, task.window, task.first_piece, r.width, [&](int offset) {
    auto pixels = load_vec<kVec>(x + offset);
#pragma unroll
    for (int e = 0; e < kVec; ++e) pixels.v[e] = from_acc<scalar_t>(to_acc(pixels.v[e]) * gate);
    store_vec(y + offset, pixels);
  });
}

// One tile. `shared` holds pooled values, later gates, [positions][pooled_stride], and hidden values
// [positions][hidden_stride]. kPositions is the number of positions that share a weight: 1 or kChunk.
// A loop over tiles needs a barrier between two of them.
template <class scalar_t, int kPositions>
__device__ void cross_resolution_weighting_tile(const Plan& p, int tile, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  using Row = MatrixRow<scalar_t, kWarpSize, kSteps>;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int tiles_per_image = p.tile_rows * p.tile_columns;
  const int image = tile / tiles_per_image, in_image = tile - image * tiles_per_image;
  const int row0 = in_image / p.tile_columns * p.rows, column0 = in_image % p.tile_columns * p.columns;
  const int channels = p.channels, hidden = p.params.hidden, chunks = ceil_div(p.positions, kPositions);
  const auto* w1 = static_cast<const scalar_t*>(p.params.w1);
  const auto* w2 = static_cast<const scalar_t*>(p.params.w2_transposed);
  acc* pooled = reinterpret_cast<acc*>(shared);
  acc* hidden_values = pooled + p.positions * p.pooled_stride;

  constexpr bool kEarly = kPositions == 1;  // request weights ahead; else registers are scarce, and blocks many
  constexpr int kBatch = kEarly ? kManyWeights : kFewWeights;
  Row next;
  acc next_bias = 0;
  const auto request_row = [&](int item) {  // items are outputs x chunks, the chunks of an output in neighbouring warps
    if (item >= hidden * chunks) return;
    next.load(w1 + static_cast<std::int64_t>(item / chunks) * channels, 0, channels, p.wide, lane);
    next_bias = to_acc(static_cast<const scalar_t*>(p.params.b1)[item / chunks]);
  };
  scalar_t column[kBatch];
  const auto request_column = [&](int output, int first) {
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      if (first + u < hidden && output < channels) column[u] = w2[(first + u) * channels + output];
    }
  };
  if constexpr (kEarly) {
    request_row(warp);
    request_column(thread, 0);
  }

  for (int item = warp; item < p.items; item += kWarps) {
    const int branch = branch_of_item(p, item);
    visit_vec<scalar_t>(p.section[branch].windows.vec, [&](auto vec) {
      pool_item<scalar_t, decltype(vec)::value>(p, branch, item, image, row0, column0, pooled);
    });
  }
  for (int i = thread; i < p.positions * (p.pooled_stride - channels); i += kThreads) {
    const int pad = p.pooled_stride - channels;
    pooled[i / pad * p.pooled_stride + channels + i % pad] = 0;
  }
  __syncthreads();  // pooled values are complete

  for (int item = warp; item < hidden * chunks; item += kWarps) {
    if constexpr (!kEarly) request_row(item);
    Row row = next;
    const acc bias = next_bias;
    if constexpr (kEarly) request_row(item + kWarps);
    const int output = item / chunks, position0 = (item - output * chunks) * kPositions;
    acc sum[kPositions] = {};
    for (int first = 0; first < channels; first += Row::kSpan) {
      if (first > 0) row.load(w1 + static_cast<std::int64_t>(output) * channels, first, channels, p.wide, lane);
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
  __syncthreads();  // hidden values are complete; pooled values are no longer needed, gates take their place

  acc* gates = pooled;
  for (int item = thread; item < channels * chunks; item += kThreads) {
    const int chunk = p.channels_divisor.divide(item), output = item - chunk * channels, position0 = chunk * kPositions;
    const acc bias = to_acc(static_cast<const scalar_t*>(p.params.b2)[output]);
    acc sum[kPositions];
#pragma unroll
    for (int q = 0; q < kPositions; ++q) sum[q] = bias;
    for (int first = 0; first < hidden; first += kBatch) {
      if (!kEarly || first > 0 || item != thread) request_column(output, first);
#pragma unroll
      for (int u = 0; u < kBatch; ++u) {
        if (first + u >= hidden) continue;
#pragma unroll
        for (int q = 0; q < kPositions; ++q) {
          sum[q] +=
              to_acc(column[u]) * hidden_values[smaller(position0 + q, p.positions - 1) * p.hidden_stride + first + u];
        }
      }
    }
#pragma unroll
    for (int q = 0; q < kPositions; ++q) {
      if (position0 + q < p.positions) gates[(position0 + q) * p.pooled_stride + output] = sigmoid(sum[q]);
    }
  }
  __syncthreads();  // gates are complete

  for (int item = warp; item < p.items; item += kWarps) {
    const int branch = branch_of_item(p, item);
    visit_vec<scalar_t>(p.section[branch].windows.vec, [&](auto vec) {
      weight_item<scalar_t, decltype(vec)::value>(p, branch, item, image, row0, column0, gates);
    });
  }
}

// One block a tile: a loop would cost 15-20 registers. Two blocks a multiprocessor (64 registers) once positions share
// weights; one position a block keeps more weights in flight instead.
template <class scalar_t, int kPositions>
__global__ void __launch_bounds__(kThreads, kPositions > 1 && sizeof(scalar_t) <= 4 ? 2 : 1)
    cross_resolution_weighting_forward_kernel(const __grid_constant__ Plan plan) {
  cross_resolution_weighting_tile<scalar_t, kPositions>(plan, static_cast<int>(blockIdx.x),
                                                        dynamic_shared<unsigned char>());
}

int total_channels(const CrossResolutionWeightingParams& params) {
  int channels = 0;
  for (int b = 0; b < params.branches; ++b) channels += params.branch[b].channels;
  return channels;
}

// The size of equal parts of `length` that is nearest to `part` and at most `most`.
int nearest_split(int length, int part, int most) {
  const int nearest = ceil_div(length, larger((length + part / 2) / part, 1));
  return nearest <= most ? nearest : ceil_div(length, ceil_div(length, part));
}

std::size_t shared_bytes(int positions, int channels, int hidden, DType dtype) {
  return static_cast<std::size_t>(positions) * (round_up(channels, kVectorPad) + round_up(hidden, kVectorPad)) *
         accumulate_size(dtype);
}

Windows windows_of(const CrossResolutionWeightingBranch& r, const CrossResolutionWeightingBranch& last, DType dtype) {
  const int size = static_cast<int>(element_size(dtype));
  return make_windows(r.height, r.width, last.height, last.width, dtype, [&](int vec) {
    return is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, vec * size) &&
           is_aligned(r.y, size, r.y_image_stride, r.y_plane_stride, vec * size);
  });
}

}  // namespace

CrossResolutionWeightingGeometry cross_resolution_weighting_geometry(const CrossResolutionWeightingParams& params,
                                                                     DType dtype) {
  const CrossResolutionWeightingBranch& last = params.branch[params.branches - 1];
  const int channels = total_channels(params);
  const std::int64_t positions_per_image = static_cast<std::int64_t>(last.height) * last.width;
  std::int64_t pixels = 0;  // of an image, all branches
  for (int b = 0; b < params.branches; ++b) {
    pixels += static_cast<std::int64_t>(params.branch[b].channels) * params.branch[b].height * params.branch[b].width;
  }
  const std::int64_t pixels_per_position = larger<std::int64_t>(pixels / positions_per_image, 1);
  const std::int64_t balanced =
      ceil_div<std::int64_t>(static_cast<std::int64_t>(params.hidden) * channels, pixels_per_position);  // P*
  const std::int64_t wanted = larger(balanced, ceil_div<std::int64_t>(kTilePixels, pixels_per_position));
  const std::int64_t affordable = larger<std::int64_t>(positions_per_image * params.batch / kMinBlocks, 1);
  int positions = static_cast<int>(smaller(smaller(wanted, affordable), static_cast<std::int64_t>(kMaxPositions)));
  int most = kMaxPositions;
  while (most > 1 && shared_bytes(most, channels, params.hidden, dtype) > kMaxSharedBytes) --most;
  positions = smaller(positions, most);

  CrossResolutionWeightingGeometry g{};
  // Tiles are parts of a row of positions, or whole rows; of one size as far as possible, the nearest to `positions`.
  g.columns = nearest_split(last.width, positions, most);
  g.rows = nearest_split(last.height, larger(positions / g.columns, 1), most / g.columns);
  g.tiles = static_cast<std::int64_t>(params.batch) * ceil_div(last.height, g.rows) * ceil_div(last.width, g.columns);
  g.shared_bytes = shared_bytes(g.rows * g.columns, channels, params.hidden, dtype);
  return g;
}

cudaError_t launch_cross_resolution_weighting_forward(const CrossResolutionWeightingParams& params, DType dtype,
                                                      cudaStream_t stream) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.hidden < 1 || params.batch < 0)
    return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  for (int b = 0; b < params.branches; ++b) {
    const CrossResolutionWeightingBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1) return cudaErrorInvalidValue;
    if (static_cast<std::int64_t>(r.height) * r.width > kMaxGrid)
      return cudaErrorInvalidValue;  // offsets in a plane are 32 bits wide
  }
  const CrossResolutionWeightingBranch& last = params.branch[params.branches - 1];
  const CrossResolutionWeightingGeometry g = cross_resolution_weighting_geometry(params, dtype);
  if (g.shared_bytes > kMaxSharedBytes || g.tiles > kMaxGrid) return cudaErrorInvalidValue;

  Plan plan{};
  plan.params = params;
  plan.rows = g.rows;
  plan.columns = g.columns;
  plan.positions = g.rows * g.columns;
  plan.tile_rows = ceil_div(last.height, g.rows);
  plan.tile_columns = ceil_div(last.width, g.columns);
  plan.height = last.height;
  plan.width = last.width;
  plan.positions_divisor = FastDivisor::of(plan.positions);
  plan.columns_divisor = FastDivisor::of(plan.columns);
  for (int b = 0; b < params.branches; ++b) {
    Section& s = plan.section[b];
    s.windows = windows_of(params.branch[b], last, dtype);
    s.first_item = plan.items;
    s.channel_offset = plan.channels;
    plan.items += ceil_div((params.branch[b].channels * plan.positions) << s.windows.log_lanes, kWarpSize);
    plan.channels += params.branch[b].channels;
  }
  plan.channels_divisor = FastDivisor::of(plan.channels);
  plan.pooled_stride = round_up(plan.channels, kVectorPad);
  plan.hidden_stride = round_up(params.hidden, kVectorPad);
  const int size = static_cast<int>(element_size(dtype)), row_elems = size == 8 ? 2 : 4;
  plan.wide = plan.channels % row_elems == 0 && is_aligned(params.w1, size, 0, 0, row_elems * size);

  const dim3 grid(static_cast<unsigned>(g.tiles));
  return visit_dtype(dtype, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto kernel = plan.positions == 1 ? cross_resolution_weighting_forward_kernel<scalar_t, 1>
                                            : cross_resolution_weighting_forward_kernel<scalar_t, kChunk>;
    return launch(kernel, grid, dim3(kThreads), g.shared_bytes, stream, plan);
  });
}

}  // namespace litehrnet
