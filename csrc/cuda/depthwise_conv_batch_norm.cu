// depthwise_conv_batch_norm: filtered_i[n,c] = weight_i[c] * (x_i[n,c] gate_i[n,c]), 3x3, padding 1, stride 1, no bias,
//                            y_i = norm_i(filtered_i), for all branches i at once
//
// gate = sigmoid(norm2(logits)) at each pixel's nearest position, or one. Products and sums in fp32 (fp64 for fp64).
// Filtered maps are rounded once, when they are stored, and statistics taken of the rounded values: those are what the
// norm is applied to and what the backward pass reads, so their mean and variance come out as exactly 0 and 1.
//
// Layout    x_i [N, c_i, H_i, W_i], planes contiguous, any image and plane stride; filtered_i and y_i contiguous.
// Launch 1  (filtered) tiles of whole rows, see row_tiles.cuh. A group requests its rows and one above and below,
//           computes the gates of the positions that they read meanwhile, stages the products in shared memory with a
//           zero column left and right, and filters vectors of up to 16 bytes. With batch statistics of the gates, it
//           first merges their parts for its channel; the group of the first image and tile stores the result.
// Launch 2  (statistics) a block per channel: the moments of its tiles, groups of lanes taking a plane each.
// Launch 3  (y) the tiles of launch 1 again.
// Traffic   reads x (rows + 2) / rows times at most (1.25 for 8-row tiles; from memory once, the rest from L2), writes
//           filtered once, and three numbers a tile. Neighbouring tiles share rows of logits.
// Sums      a lane's values in order, lanes by a fixed tree, warps, tiles and images in order: bitwise reproducible.
// Limits    in 48 KB of shared memory a tile's gates (accumulators) and 3 (W + 2 vectors) elements: W up to about 2,000
//           in fp64 and 4,000 in fp32, half of that with gates of as high a resolution as the maps. N c < 2^31.
#include "core/row_tiles.cuh"
#include "cuda/depthwise_conv_batch_norm.h"

namespace litehrnet {
namespace {

// Blocks a multiprocessor: registers for code without spills everywhere, 96 a thread, 128 for fp64.
template <class scalar_t>
constexpr int kBlocks = sizeof(scalar_t) == 8 ? 4 : 5;
constexpr int kFlight = 4;  // vectors that a lane requests before it waits: all of a small tile
constexpr int kStatisticsThreads = 128;
constexpr std::size_t kScratchBytes = 128;  // moments of the warps
static_assert(kLargeThreads / kWarpSize * sizeof(Moments<double>) <= kScratchBytes &&
                  kStatisticsThreads / kWarpSize * sizeof(Moments<double>) <= kScratchBytes &&
                  kScratchBytes % kVecBytes == 0,
              "scratch holds moments per warp");

struct Section : RowTiles {
  void* moments;      // [c, N, tiles]
  int first_channel;  // numbered over all branches
};

struct Plan {
  DepthwiseConvBatchNormParams params;
  Section section[kMaxBranches];
};

// Moments of the warps' threads in order, from first to last; in the first thread.
template <class acc>
__device__ __forceinline__ Moments<acc> warps_merge(Moments<acc> moments, int first, int warps, Moments<acc>* scratch) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  if (threadIdx.x % kWarpSize == 0) scratch[warp] = moments;
  __syncthreads();  // the warps' moments are complete
  if (warp == first) {
    for (int i = 1; i < warps; ++i) moments = merge(moments, scratch[first + i]);
  }
  return moments;
}

template <class scalar_t, int kVec>
__device__ void filter_tile(const Plan& p, int branch, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const Section& s = p.section[branch];
  const DepthwiseConvBatchNormBranch& r = p.params.branch[branch];
  const PositionGates& gates = p.params.gates;
  const RowTile t = row_tile(s, block, p.params.batch * r.channels, r.height);
  const int image = t.unit / r.channels, channel = t.unit - image * r.channels;
  const int width = r.width, vectors = width / kVec, stride = width + 2 * kVec;
  const int wanted = t.rows == 0 ? 0 : (t.rows + 2) * vectors;
  const int groups = static_cast<int>(blockDim.x) >> s.log_lanes;
  acc* staged_gates = reinterpret_cast<acc*>(shared + kScratchBytes) + t.group * s.gates;
  const int staged_offset = round_up(static_cast<int>(kScratchBytes + groups * s.gates * sizeof(acc)), kVecBytes);
  scalar_t* staged = reinterpret_cast<scalar_t*>(shared + staged_offset) +
                     t.group * (s.rows + 2) * stride;  // [rows + 2][stride], pixel 0 at kVec

  acc weight[9];
  const acc* w = static_cast<const acc*>(r.weight) + channel * 9;
#pragma unroll
  for (int k = 0; k < 9; ++k) weight[k] = w[k];

  const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + channel * r.x_plane_stride;
  Vec<scalar_t, kVec> pixels[kFlight];
  const auto request = [&](int first) {
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int v = first + (u << s.log_lanes), row = s.vectors_divisor.divide(v), y = t.row0 + row - 1;
#pragma unroll
      for (int e = 0; e < kVec; ++e) pixels[u].v[e] = from_acc<scalar_t>(0);
      if (v < wanted && y >= 0 && y < r.height) pixels[u] = load_vec<kVec>(x + y * width + (v - row * vectors) * kVec);
    }
  };
  request(t.lane);

  GateRows gate_range{};
  if (gates.logits != nullptr) {
    const int gate_channel = r.gate_channel + channel;
    const bool store = image == 0 && t.tile == 0 && t.rows > 0 && t.lane == 0;
    const auto norm = gate_norm<acc>(gates, gate_channel, store, smaller(t.lanes, kWarpSize));
    gate_range = gate_rows(gates, t.row0 - 1, t.row0 + t.rows, r.height);
    if (t.rows > 0) stage_gates<scalar_t>(gates, norm, image, gate_channel, gate_range, t, staged_gates);
    __syncthreads();  // the gates of every group are there
  }

#pragma unroll 1
  for (int first = t.lane; first < wanted; first += kFlight << s.log_lanes) {
    if (first != t.lane) request(first);
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int v = first + (u << s.log_lanes), row = s.vectors_divisor.divide(v), column = (v - row * vectors) * kVec;
      const int y = t.row0 + row - 1;
      if (v >= wanted) continue;
      if (gates.logits != nullptr && y >= 0 && y < r.height) {
        const acc* gate_row =
            staged_gates + (nearest_position(y, gates.height, r.height) - gate_range.first) * gates.width;
#pragma unroll
        for (int e = 0; e < kVec; ++e)
          pixels[u].v[e] =
              from_acc<scalar_t>(to_acc(pixels[u].v[e]) * gate_row[nearest_position(column + e, gates.width, width)]);
      }
      store_vec(staged + row * stride + kVec + column, pixels[u]);
    }
  }
  if (t.rows > 0) {
    for (int row = t.lane; row < t.rows + 2; row += t.lanes)
      staged[row * stride + kVec - 1] = staged[row * stride + kVec + width] = from_acc<scalar_t>(0);
  }
  __syncthreads();  // the input rows of every group are staged

  MomentsAccumulator<acc> values;
  scalar_t* filtered =
      static_cast<scalar_t*>(r.filtered) + (static_cast<std::int64_t>(t.unit) * r.height + t.row0) * width;
#pragma unroll 1
  for (int v = t.lane; v < t.rows * vectors; v += t.lanes) {
    const int row = s.vectors_divisor.divide(v), column = (v - row * vectors) * kVec;
    acc out[kVec] = {};
#pragma unroll
    for (int ky = 0; ky < 3; ++ky) {
      const scalar_t* in = staged + (row + ky) * stride + kVec + column;
      const auto middle = load_vec<kVec>(in);
      acc pixel[kVec + 2];
      pixel[0] = to_acc(in[-1]);
      pixel[kVec + 1] = to_acc(in[kVec]);
#pragma unroll
      for (int e = 0; e < kVec; ++e) pixel[e + 1] = to_acc(middle.v[e]);
#pragma unroll
      for (int e = 0; e < kVec; ++e) {
#pragma unroll
        for (int kx = 0; kx < 3; ++kx) out[e] += weight[ky * 3 + kx] * pixel[e + kx];
      }
    }
    Vec<scalar_t, kVec> result;
#pragma unroll
    for (int e = 0; e < kVec; ++e) {
      result.v[e] = from_acc<scalar_t>(out[e]);
      values.add(to_acc(result.v[e]));
    }
    store_vec(filtered + row * width + column, result);
  }

  Moments<acc> moments = lanes_merge(values.moments(), smaller(t.lanes, kWarpSize));
  if (t.lanes > kWarpSize) {  // the same for all threads of the block
    moments = warps_merge(moments, t.group * t.lanes / kWarpSize, t.lanes / kWarpSize,
                          reinterpret_cast<Moments<acc>*>(shared));
  }
  if (t.rows > 0 && t.lane == 0) {
    static_cast<Moments<acc>*>(
        s.moments)[(static_cast<std::int64_t>(channel) * p.params.batch + image) * s.tiles + t.tile] = moments;
  }
}

template <class scalar_t>
__global__ void __launch_bounds__(kLargeThreads, kBlocks<scalar_t>)
    depthwise_conv_batch_norm_filter_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x), branch = branch_of(plan.section, plan.params.branches, block);
  visit_vec<scalar_t>(plan.section[branch].vec, [&](auto vec) {
    filter_tile<scalar_t, decltype(vec)::value>(plan, branch, block - plan.section[branch].first_block,
                                                dynamic_shared<unsigned char>());
  });
}

// One block, one channel. Each aligned group of lanes merges the tiles of a plane; its first lane merges the planes.
template <class acc>
__global__ void __launch_bounds__(kStatisticsThreads)
    depthwise_conv_batch_norm_statistics_kernel(const __grid_constant__ Plan plan) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b)
    branch += b < plan.params.branches && static_cast<int>(blockIdx.x) >= plan.section[b].first_channel;
  const Section& s = plan.section[branch];
  const DepthwiseConvBatchNormBranch& r = plan.params.branch[branch];
  const int channel = static_cast<int>(blockIdx.x) - s.first_channel, batch = plan.params.batch;
  const int thread = static_cast<int>(threadIdx.x);
  int lanes = 1;
  while (lanes < s.tiles && lanes < kWarpSize) lanes *= 2;
  const int lane = thread & (lanes - 1), groups = kStatisticsThreads / lanes;
  const Moments<acc>* parts =
      static_cast<const Moments<acc>*>(s.moments) + static_cast<std::int64_t>(channel) * batch * s.tiles;
  Moments<acc> total = {0, 0, 0};
#pragma unroll 1
  for (int image0 = 0; image0 < batch; image0 += groups) {  // all lanes take part in merging
    const int image = image0 + thread / lanes;
    Moments<acc> plane = {0, 0, 0};
#pragma unroll 1
    for (int tile = lane; image < batch && tile < s.tiles; tile += lanes)
      plane = merge(plane, parts[static_cast<std::int64_t>(image) * s.tiles + tile]);
    plane = lanes_merge(plane, lanes);
    if (lane == 0 && image < batch) {
      if (r.plane_sums != nullptr)
        static_cast<acc*>(r.plane_sums)[static_cast<std::int64_t>(image) * r.channels + channel] =
            plane.mean * plane.count;
      total = merge(total, plane);
    }
  }
  if (!plan.params.batch_statistics) return;
  total = lanes_merge(total, kWarpSize);
  total = warps_merge(total, 0, kStatisticsThreads / kWarpSize, dynamic_shared<Moments<acc>>());
  if (thread == 0) store_statistics(r.norm, channel, total);
}

template <class scalar_t, int kVec>
__device__ void normalise_tile(const Plan& p, int branch, int block) {
  using acc = acc_t<scalar_t>;
  const DepthwiseConvBatchNormBranch& r = p.params.branch[branch];
  const RowTile t = row_tile(p.section[branch], block, p.params.batch * r.channels, r.height);
  const NormalisedChannel<acc> norm = normalised_channel(r.norm, t.unit % r.channels, static_cast<acc>(p.params.eps));
  const std::int64_t offset = (static_cast<std::int64_t>(t.unit) * r.height + t.row0) * r.width;
  const scalar_t* filtered = static_cast<const scalar_t*>(r.filtered) + offset;
  scalar_t* y = static_cast<scalar_t*>(r.y) + offset;
#pragma unroll 2
  for (int pixel = t.lane * kVec; pixel < t.rows * r.width; pixel += t.lanes * kVec) {
    auto values = load_vec<kVec>(filtered + pixel);
#pragma unroll
    for (int e = 0; e < kVec; ++e) values.v[e] = from_acc<scalar_t>(norm.apply(to_acc(values.v[e])));
    store_vec(y + pixel, values);
  }
}

template <class scalar_t>
__global__ void __launch_bounds__(kLargeThreads)
    depthwise_conv_batch_norm_normalise_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x), branch = branch_of(plan.section, plan.params.branches, block);
  visit_vec<scalar_t>(plan.section[branch].vec, [&](auto vec) {
    normalise_tile<scalar_t, decltype(vec)::value>(plan, branch, block - plan.section[branch].first_block);
  });
}

std::size_t moments_bytes(const DepthwiseConvBatchNormParams& params, int branch, DType dtype) {
  const DepthwiseConvBatchNormBranch& r = params.branch[branch];
  const std::size_t tiles = static_cast<std::size_t>(row_tile_count(params.batch, r.height, r.width));
  return round_up<std::size_t>(3 * accumulate_size(dtype) * params.batch * r.channels * tiles, kVecBytes);
}

bool has_valid_sizes(const DepthwiseConvBatchNormParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0) return false;
  for (int b = 0; b < params.branches; ++b) {
    const DepthwiseConvBatchNormBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1) return false;
    const std::int64_t planes = static_cast<std::int64_t>(params.batch) * r.channels;
    if (planes + kLargeThreads > kMaxGrid || static_cast<std::int64_t>(r.height + 2) * r.width > kMaxGrid) return false;
  }
  return true;
}

}  // namespace

std::size_t depthwise_conv_batch_norm_workspace_bytes(const DepthwiseConvBatchNormParams& params, DType dtype) {
  if (!has_valid_sizes(params)) return 0;
  std::size_t bytes = 0;
  for (int b = 0; b < params.branches; ++b) bytes += moments_bytes(params, b, dtype);
  return bytes;
}

cudaError_t launch_depthwise_conv_batch_norm_forward(const DepthwiseConvBatchNormParams& params, DType dtype,
                                                     cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  const int size = static_cast<int>(element_size(dtype)), threads = row_tile_threads(params.batch);
  Plan plan{};
  plan.params = params;
  auto* moments = static_cast<unsigned char*>(params.workspace);
  std::size_t shared_bytes = 0;
  std::int64_t blocks = 0, channels = 0;
  for (int b = 0; b < params.branches; ++b) {
    const DepthwiseConvBatchNormBranch& r = params.branch[b];
    int vec = kVecBytes / size;
    while (vec > 1 && (r.width % vec != 0 || !is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, vec * size) ||
                       !is_aligned(r.filtered, size, 0, 0, vec * size) || !is_aligned(r.y, size, 0, 0, vec * size)))
      vec /= 2;
    Section& s = plan.section[b];
    static_cast<RowTiles&>(s) = make_row_tiles(
        params.batch, r.height, r.width, vec, params.gates, 1, kScratchBytes + kVecBytes,
        [&](const RowTiles& tiles) {
          return tiles.gates * accumulate_size(dtype) +
                 static_cast<std::size_t>(tiles.rows + 2) * (r.width + 2 * vec) * size;
        },
        shared_bytes);
    s.moments = moments;
    moments += moments_bytes(params, b, dtype);
    s.first_block = static_cast<int>(blocks);
    s.first_channel = static_cast<int>(channels);
    channels += r.channels;
    const std::int64_t planes = static_cast<std::int64_t>(params.batch) * r.channels;
    blocks += ceil_div<std::int64_t>(planes, threads >> s.log_lanes) * s.tiles;
    if (blocks > kMaxGrid || channels > kMaxGrid) return cudaErrorInvalidValue;
  }
  if (shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  return visit_dtype(dtype, [&](auto zero) {
    using scalar_t = decltype(zero);
    const dim3 grid(static_cast<unsigned>(blocks));
    cudaError_t error = launch(depthwise_conv_batch_norm_filter_kernel<scalar_t>, grid, dim3(threads), shared_bytes,
                               stream, plan);
    if (error == cudaSuccess)
      error = launch(depthwise_conv_batch_norm_statistics_kernel<acc_t<scalar_t>>,
                     dim3(static_cast<unsigned>(channels)), dim3(kStatisticsThreads), kScratchBytes, stream, plan);
    if (error == cudaSuccess && params.branch[0].y != nullptr)
      error = launch(depthwise_conv_batch_norm_normalise_kernel<scalar_t>, grid, dim3(threads), 0, stream, plan);
    return error;
  });
}

}  // namespace litehrnet
