// depthwise_conv: y_i[n,c] = weight_i[c] * x_i[n,c] + bias_i[c], 3x3, padding 1, stride 1, for all branches i at once;
//                 partial_sums_i[n,c,t] = the sum of y_i[n,c] over the rows of tile t, for spatial weighting's pool
//
// Batch norms are folded into weight and bias; products and sums in fp32 (fp64 for fp64). y is rounded once, when it is
// stored; the partial sums are taken before.
//
// Layout   x_i [N, c_i, H_i, W_i], planes contiguous, any image and plane stride; y_i contiguous.
// Mapping  tile = whole rows of one plane, at most kSmallTile pixels (kLargeTile for large batches), so that even
//          batch 1 gives hundreds of tiles. A group of 8 to 128 lanes owns a tile, a block holds as many groups as fit:
//          small planes share a block. The tile's rows and one above and below are requested, kFlight vectors a lane
//          at a time, and staged in shared memory with a zero column left and right; a lane then computes vectors of
//          up to 16 bytes of outputs.
// Traffic  reads x (rows + 2) / rows times at most (1.25 for the 8-row tiles of 64x48; from memory once, the rest from
//          L2), writes y once, and one sum per tile.
// Sums     a lane adds its outputs in order, lanes by a fixed tree, warps in order: bitwise reproducible, no atomics.
// Limits   3 (W + 2 vectors) elements within 48 KB of shared memory: W up to about 4,000 in fp32; N c < 2^31.
#include "core/reduce.cuh"
#include "cuda/depthwise_conv.h"

namespace litehrnet {
namespace {

constexpr int kSmallThreads =
    64;  // measured in simulation at batch 1: 64 threads with 384 pixels beat 128 with 768 (5.3k to 6.7k cycles)
constexpr int kLargeThreads =
    128;                         // once there are blocks enough, fewer halo rows and fewer instructions per pixel count
constexpr int kBlocks = 6;       // a multiprocessor: at most 80 registers, enough for code without spills everywhere
constexpr int kSmallTile = 384;  // pixels: with 16-byte fp32 vectors 1.5 outputs a thread of kSmallThreads
constexpr int kLargeTile = 768;
constexpr int kLargeBatch = 8;             // images from which on the large tile is used
constexpr int kFlight = 4;                 // vectors that a lane requests before it waits: all of a small tile
constexpr int kVectorsPerLane = 2;         // aimed at when lanes are assigned to a tile
constexpr int kMinLogLanes = 3;            // groups of 8 lanes at least, so that a block is at most 16 groups
constexpr std::size_t kScratchBytes = 64;  // the warps' sums
static_assert(kLargeThreads / kWarpSize * sizeof(double) <= kScratchBytes && kScratchBytes % kVecBytes == 0,
              "scratch holds a sum per warp");

struct Section {
  FastDivisor vectors_divisor;  // vectors of a row
  int first_tile;               // blocks, numbered over all branches
  int tiles;                    // of a plane
  int rows;                     // of a tile
  int log_lanes;                // of a group
  int vec;
};

struct Plan {
  DepthwiseConvParams params;
  Section section[kMaxBranches];
};

template <class scalar_t, int kVec>
__device__ void filter_tile(const Plan& p, int branch, int tile, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const Section& s = p.section[branch];
  const DepthwiseConvBranch& r = p.params.branch[branch];
  const int thread = static_cast<int>(threadIdx.x), lanes = 1 << s.log_lanes, lane = thread & (lanes - 1),
            group = thread >> s.log_lanes;
  const int groups = static_cast<int>(blockDim.x) >> s.log_lanes;
  const int unit = tile / s.tiles, tile_of_plane = tile - unit * s.tiles, plane = unit * groups + group;
  const bool live = plane < p.params.batch * r.channels;
  const int image = plane / r.channels, channel = plane - image * r.channels;
  const int width = r.width, vectors = width / kVec, stride = width + 2 * kVec;
  const int row0 = tile_of_plane * s.rows, rows = live ? smaller(s.rows, r.height - row0) : 0;
  acc* warp_sums = reinterpret_cast<acc*>(shared);
  scalar_t* rows_in = reinterpret_cast<scalar_t*>(shared + kScratchBytes) +
                      group * (s.rows + 2) * stride;  // [rows + 2][stride], pixel 0 at kVec

  acc weight[9] = {}, bias = 0;
  if (live) {
    const scalar_t* w = static_cast<const scalar_t*>(r.weight) + channel * 9;
#pragma unroll
    for (int k = 0; k < 9; ++k) weight[k] = to_acc(w[k]);
    bias = to_acc(static_cast<const scalar_t*>(r.bias)[channel]);

    const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + channel * r.x_plane_stride;
    const int wanted = (rows + 2) * vectors;
    for (int first = lane; first < wanted; first += kFlight << s.log_lanes) {
      Vec<scalar_t, kVec> pixels[kFlight];
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        const int v = first + (u << s.log_lanes), row = s.vectors_divisor.divide(v), y = row0 + row - 1;
#pragma unroll
        for (int e = 0; e < kVec; ++e) pixels[u].v[e] = from_acc<scalar_t>(0);
        if (v < wanted && y >= 0 && y < r.height)
          pixels[u] = load_vec<kVec>(x + y * width + (v - row * vectors) * kVec);
      }
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        const int v = first + (u << s.log_lanes), row = s.vectors_divisor.divide(v);
        if (v < wanted) store_vec(rows_in + row * stride + kVec + (v - row * vectors) * kVec, pixels[u]);
      }
    }
    for (int row = lane; row < rows + 2; row += lanes) {
      rows_in[row * stride + kVec - 1] = rows_in[row * stride + kVec + width] = from_acc<scalar_t>(0);
    }
  }
  __syncthreads();  // the input rows of every group are staged

  acc sum = 0;
  scalar_t* y = static_cast<scalar_t*>(r.y) + (static_cast<std::int64_t>(plane) * r.height + row0) * width;
  for (int v = lane; v < rows * vectors; v += lanes) {
    const int row = s.vectors_divisor.divide(v), column = (v - row * vectors) * kVec;
    acc out[kVec];
#pragma unroll
    for (int e = 0; e < kVec; ++e) out[e] = bias;
#pragma unroll
    for (int ky = 0; ky < 3; ++ky) {
      const scalar_t* in = rows_in + (row + ky) * stride + kVec + column;
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
      sum += out[e];
      result.v[e] = from_acc<scalar_t>(out[e]);
    }
    store_vec(y + row * width + column, result);
  }

  sum = lanes_sum(sum, smaller(lanes, kWarpSize));
  if (lanes > kWarpSize) {  // the same for all threads of the block
    if (thread % kWarpSize == 0) warp_sums[thread / kWarpSize] = sum;
    __syncthreads();  // the warps' sums are complete
    if (lane == 0) {
      for (int warp = 1; warp < lanes / kWarpSize; ++warp) sum += warp_sums[thread / kWarpSize + warp];
    }
  }
  if (live && lane == 0 && r.partial_sums != nullptr) {
    static_cast<acc*>(r.partial_sums)[static_cast<std::int64_t>(plane) * s.tiles + tile_of_plane] = sum;
  }
}

// One block's worth of work: up to `groups` planes of one branch, one tile of each. A loop over tiles needs a barrier
// between two of them.
template <class scalar_t>
__device__ void depthwise_conv_tile(const Plan& p, int tile, unsigned char* shared) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && tile >= p.section[b].first_tile;
  const int own = tile - p.section[branch].first_tile;
  visit_vec<scalar_t>(p.section[branch].vec,
                      [&](auto vec) { filter_tile<scalar_t, decltype(vec)::value>(p, branch, own, shared); });
}

template <class scalar_t>
__global__ void __launch_bounds__(kLargeThreads, kBlocks)
    depthwise_conv_forward_kernel(const __grid_constant__ Plan plan) {
  depthwise_conv_tile<scalar_t>(plan, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

int tile_rows(int batch, int height, int width) {
  const int rows = larger((batch < kLargeBatch ? kSmallTile : kLargeTile) / width, 1);
  return ceil_div(height, ceil_div(height, smaller(rows, height)));  // tiles of nearly equal height
}

}  // namespace

int depthwise_conv_tiles(int batch, int height, int width) { return ceil_div(height, tile_rows(batch, height, width)); }

cudaError_t launch_depthwise_conv_forward(const DepthwiseConvParams& params, DType dtype, cudaStream_t stream) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0) return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  const int size = static_cast<int>(element_size(dtype));
  const int threads = params.batch < kLargeBatch ? kSmallThreads : kLargeThreads;
  Plan plan{};
  plan.params = params;
  std::size_t shared_bytes = 0;
  std::int64_t tiles = 0;
  for (int b = 0; b < params.branches; ++b) {
    const DepthwiseConvBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1) return cudaErrorInvalidValue;
    const std::int64_t planes = static_cast<std::int64_t>(params.batch) * r.channels;
    if (planes + threads > kMaxGrid || static_cast<std::int64_t>(r.height + 2) * r.width > kMaxGrid)
      return cudaErrorInvalidValue;
    Section& s = plan.section[b];
    s.vec = kVecBytes / size;
    while (s.vec > 1 &&
           (r.width % s.vec != 0 || !is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, s.vec * size) ||
            !is_aligned(r.y, size, 0, 0, s.vec * size))) {
      s.vec /= 2;
    }
    s.rows = tile_rows(params.batch, r.height, r.width);
    s.tiles = ceil_div(r.height, s.rows);
    s.vectors_divisor = FastDivisor::of(r.width / s.vec);
    s.log_lanes = larger(kMinLogLanes,
                         smaller(ceil_log2(ceil_div(s.rows * (r.width / s.vec), kVectorsPerLane)), ceil_log2(threads)));
    const auto group_bytes = static_cast<std::size_t>(s.rows + 2) * (r.width + 2 * s.vec) * size;
    while (s.log_lanes < ceil_log2(threads) && kScratchBytes + (threads >> s.log_lanes) * group_bytes > kMaxSharedBytes)
      ++s.log_lanes;
    shared_bytes = larger(shared_bytes, kScratchBytes + (threads >> s.log_lanes) * group_bytes);
    s.first_tile = static_cast<int>(tiles);
    tiles += ceil_div<std::int64_t>(planes, threads >> s.log_lanes) * s.tiles;
    if (tiles > kMaxGrid) return cudaErrorInvalidValue;
  }
  if (shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  return visit_dtype(dtype, [&](auto zero) {
    return launch(depthwise_conv_forward_kernel<decltype(zero)>, dim3(static_cast<unsigned>(tiles)), dim3(threads),
                  shared_bytes, stream, plan);
  });
}

}  // namespace litehrnet
