// The plan's step GatedDepthwise: y_i = weight_i * (x_i upsample(gates_i)) + bias_i, depthwise 3x3, padding 1,
//                                 sums_i[n,c,t] = the sum of y_i[n,c] over rows t R to (t + 1) R - 1
//
// for all branches i at once; R = rows_per_sum. x_i are planes as their readers see them: ReLU, then a factor. upsample
// copies the nearest position (PyTorch's rounding). Products and sums in fp32 (fp64 for fp64): x times its gate is not
// rounded to the element type, and sums are taken before y is.
//
// Layout   x_i, y_i planes wherever they lie, each dense; gates [N, c_i, h, w], sums [N, c_i, tiles], any image stride.
// Mapping  tile = the rows of one sum of one plane, 384 pixels at most in a plan of the networks, so that even batch 1
//          gives hundreds of tiles. A group of 8 to 64 lanes owns a tile, a block holds as many groups as fit: small
//          planes share a block. The tile's rows and one above and below are requested, kFlight vectors a lane at a
//          time; meanwhile the positions that they read, times the plane's factor, go to shared memory. Weighted pixels
//          are staged in the accumulation type, with a zero column left and right; a lane then computes vectors of up
//          to 16 bytes of outputs.
// Traffic  reads x (R + 2) / R times at most (1.25 for the 8-row tiles of 64x48; from memory once, the rest from L2),
//          gates about as often (2 % of x), writes y once, and one sum per tile. Neither the weighted map nor the gated
//          one of the block before ever exist.
// Sums     a lane adds its outputs in order, lanes by a fixed tree, warps in order: bitwise reproducible, no atomics.
// Limits   (R + 2) (W + 2 vectors) pixels and the positions that they read, as accumulators, within 48 KB of shared
//          memory: W up to about 4,000 in fp32; N c < 2^31.
#pragma once

#include "core/reduce.cuh"
#include "core/resample.h"
#include "core/tile_loop.cuh"
#include "cuda/plan_gated_depthwise.h"
#include "cuda/plan_phase.h"

namespace litehrnet::plan_gated_depthwise {

constexpr int kFlight = 4;                 // vectors that a lane requests before it waits: all of a tile of 384 pixels
constexpr int kVectorsPerLane = 2;         // aimed at when lanes are assigned to a tile
constexpr int kMinLogLanes = 3;            // groups of 8 lanes at least
constexpr int kGoodLogLanes = 6;           // and 64 at most, unless memory does not suffice for other groups

// The warps' sums.
__host__ __device__ constexpr std::size_t scratch_bytes(int threads) {
  return round_up<std::size_t>(threads / kWarpSize * sizeof(double), kVecBytes);
}

struct Section {
  FastDivisor vectors_divisor;  // vectors of a row
  FastDivisor channels_divisor, tiles_divisor;
  float scale_y, scale_x;       // of nearest upsampling, as nearest_position() computes them
  int first_block;              // numbered over all branches
  int tiles;                    // of a plane
  int log_lanes;                // of a group
  int vec;
  int pixels_bytes, group_bytes;  // of shared memory: a group's pixels, and those with its positions
};

struct Phase {
  PlanGatedDepthwiseParams params;
  Section section[kMaxBranches];
};

// nearest_position() with the scale at hand: the same arithmetic, hence the same rounding.
__device__ __forceinline__ int scaled_position(int pixel, float scale, int positions) {
  return smaller(static_cast<int>(static_cast<float>(pixel) * scale), positions - 1);
}

template <class scalar_t, int kThreads, int kVec>
__device__ void filter_tile(const Phase& p, int branch, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const Section& s = p.section[branch];
  const PlanGatedDepthwiseBranch& r = p.params.branch[branch];
  const int thread = thread_index(), lanes = 1 << s.log_lanes, lane = thread & (lanes - 1),
            group = thread >> s.log_lanes;
  const int unit = s.tiles_divisor.divide(block), tile = block - unit * s.tiles;
  const int plane = unit * (kThreads >> s.log_lanes) + group;
  const bool live = plane < p.params.batch * r.channels;
  const int image = s.channels_divisor.divide(plane), channel = plane - image * r.channels;
  const int width = r.width, vectors = width / kVec, stride = width + 2 * kVec;
  const int row0 = tile * r.rows_per_sum, rows = live ? smaller(r.rows_per_sum, r.height - row0) : 0;
  const int wanted = live ? (rows + 2) * vectors : 0;
  acc* warp_sums = reinterpret_cast<acc*>(shared);
  unsigned char* own = shared + scratch_bytes(kThreads) + group * s.group_bytes;
  acc* rows_in = reinterpret_cast<acc*>(own);  // [rows + 2][stride], pixel 0 at kVec
  acc* positions = reinterpret_cast<acc*>(own + s.pixels_bytes);  // [rows of positions][gate_width]

  GatedDepthwisePlane place{};
  if (live) place = r.planes[channel];
  const bool relu = place.source.relu != 0;
  const auto* x = place.source.data.in<const scalar_t>(r.memory, p.params.batch, image);
  Vec<scalar_t, kVec> pixels[kFlight];
  const auto request = [&](int first) {
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int v = first + (u << s.log_lanes), row = s.vectors_divisor.divide(v), y = row0 + row - 1;
#pragma unroll
      for (int e = 0; e < kVec; ++e) pixels[u].v[e] = from_acc<scalar_t>(0);
      if (v < wanted && y >= 0 && y < r.height) pixels[u] = load_vec<kVec>(x + y * width + (v - row * vectors) * kVec);
    }
  };
  request(lane);

  acc weight[9] = {}, bias = 0;
  const int first_position = scaled_position(larger(row0 - 1, 0), s.scale_y, r.gate_height);
  if (live) {
    const scalar_t* w = static_cast<const scalar_t*>(r.weight) + channel * 9;
#pragma unroll
    for (int k = 0; k < 9; ++k) weight[k] = to_acc(w[k]);
    bias = static_cast<const acc*>(r.bias)[channel];
    acc factor = 1;
    if (place.source.has_factor != 0) factor = *place.source.factor.in<const acc>(r.memory, p.params.batch, image);
    const int last_position = scaled_position(smaller(row0 + rows, r.height - 1), s.scale_y, r.gate_height);
    const scalar_t* gates = static_cast<const scalar_t*>(r.gates) + image * r.gates_image_stride +
                            (static_cast<std::int64_t>(channel) * r.gate_height + first_position) * r.gate_width;
    const int count = (last_position - first_position + 1) * r.gate_width;
    for (int i = lane; i < count; i += lanes) positions[i] = to_acc(gates[i]) * factor;
    for (int row = lane; row < rows + 2; row += lanes)
      rows_in[row * stride + kVec - 1] = rows_in[row * stride + kVec + width] = 0;
  }
  __syncthreads();  // every group's positions are complete

  for (int first = lane; first < wanted; first += kFlight << s.log_lanes) {
    if (first != lane) request(first);
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      const int v = first + (u << s.log_lanes), row = s.vectors_divisor.divide(v), y = row0 + row - 1;
      if (v >= wanted) continue;
      const int column = (v - row * vectors) * kVec;
      const bool inside = y >= 0 && y < r.height;  // elsewhere is padding, which no gate turns into a NaN
      const acc* gates = positions;
      if (inside) gates += (scaled_position(y, s.scale_y, r.gate_height) - first_position) * r.gate_width;
#pragma unroll
      for (int e = 0; e < kVec; ++e) {
        acc value = to_acc(pixels[u].v[e]);
        value = relu && value < 0 ? 0 : value;
        rows_in[row * stride + kVec + column + e] =
            inside ? value * gates[scaled_position(column + e, s.scale_x, r.gate_width)] : 0;
      }
    }
  }
  __syncthreads();  // the input rows of every group are staged

  acc sum = 0;
  scalar_t* y = place.output.in<scalar_t>(r.memory, p.params.batch, image) + row0 * width;
  for (int v = lane; v < rows * vectors; v += lanes) {
    const int row = s.vectors_divisor.divide(v), column = (v - row * vectors) * kVec;
    acc out[kVec];
#pragma unroll
    for (int e = 0; e < kVec; ++e) out[e] = bias;
#pragma unroll
    for (int ky = 0; ky < 3; ++ky) {
      const acc* in = rows_in + (row + ky) * stride + kVec + column;
      acc pixel[kVec + 2];
      pixel[0] = in[-1];
      pixel[kVec + 1] = in[kVec];
      constexpr int kPiece = smaller(kVec, kVecElems<acc>);
#pragma unroll
      for (int e = 0; e < kVec; e += kPiece) {
        const auto middle = load_vec<kPiece>(in + e);
#pragma unroll
        for (int i = 0; i < kPiece; ++i) pixel[e + i + 1] = middle.v[i];
      }
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
  if (live && lane == 0) static_cast<acc*>(r.sums)[image * r.sums_image_stride + channel * s.tiles + tile] = sum;
}

// One block's worth of work: up to `groups` planes of one branch, one tile of each. A loop over blocks needs a barrier
// between two of them.
template <class scalar_t, int kThreads>
__device__ void run_tile(const Phase& p, int block, unsigned char* shared) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && block >= p.section[b].first_block;
  const int own = block - p.section[branch].first_block;
  visit_vec<scalar_t>(p.section[branch].vec, [&](auto vec) {
    filter_tile<scalar_t, kThreads, decltype(vec)::value>(p, branch, own, shared);
  });
}


// The most rows of positions that a tile and the rows around it read.
inline int position_rows(const PlanGatedDepthwiseBranch& r) {
  int most = 1;
  for (int row0 = 0; row0 < r.height; row0 += r.rows_per_sum) {
    const int first = nearest_position(larger(row0 - 1, 0), r.gate_height, r.height);
    const int last = nearest_position(smaller(row0 + r.rows_per_sum, r.height - 1), r.gate_height, r.height);
    most = larger(most, last - first + 1);
  }
  return most;
}

inline cudaError_t make_phase(const PlanGatedDepthwiseParams& params, DType dtype, int threads, Phase& phase,
                              LaunchShape& shape) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0) return cudaErrorInvalidValue;
  shape = {};
  if (params.batch == 0) return cudaSuccess;
  const int size = static_cast<int>(element_size(dtype)), accumulator = static_cast<int>(accumulate_size(dtype));
  phase = {};
  phase.params = params;
  std::size_t shared_bytes = 0;
  std::int64_t blocks = 0;
  for (int b = 0; b < params.branches; ++b) {
    const PlanGatedDepthwiseBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1 || r.gate_height < 1 || r.gate_width < 1)
      return cudaErrorInvalidValue;
    if (r.rows_per_sum < 1 || r.vec < 1) return cudaErrorInvalidValue;
    const std::int64_t planes = static_cast<std::int64_t>(params.batch) * r.channels;
    if (planes + threads > kMaxGrid || static_cast<std::int64_t>(r.height + 2) * r.width > kMaxGrid)
      return cudaErrorInvalidValue;
    Section& s = phase.section[b];
    s.vec = kVecBytes / size;
    while (s.vec > 1 && (r.width % s.vec != 0 || s.vec > r.vec)) s.vec /= 2;
    const int rows = smaller(r.rows_per_sum, r.height);
    s.tiles = ceil_div(r.height, r.rows_per_sum);
    s.vectors_divisor = FastDivisor::of(r.width / s.vec);
    s.channels_divisor = FastDivisor::of(r.channels);
    s.tiles_divisor = FastDivisor::of(s.tiles);
    s.scale_y = static_cast<float>(r.gate_height) / static_cast<float>(r.height);
    s.scale_x = static_cast<float>(r.gate_width) / static_cast<float>(r.width);
    const auto pixels_bytes = round_up<std::int64_t>(
        (static_cast<std::int64_t>(rows) + 2) * (r.width + 2 * s.vec) * accumulator, kVecBytes);
    const auto group_bytes =
        pixels_bytes +
        round_up<std::int64_t>(static_cast<std::int64_t>(position_rows(r)) * r.gate_width * accumulator, kVecBytes);
    const auto most = static_cast<std::int64_t>(kMaxSharedBytes - scratch_bytes(threads));
    if (group_bytes > most) return cudaErrorInvalidValue;
    s.pixels_bytes = static_cast<int>(pixels_bytes);
    s.group_bytes = static_cast<int>(group_bytes);
    const int log_threads = ceil_log2(threads);
    const int wanted = ceil_log2(ceil_div(rows * (r.width / s.vec), kVectorsPerLane));
    s.log_lanes = larger(kMinLogLanes, smaller(wanted, smaller(kGoodLogLanes, log_threads)));
    while (s.log_lanes < log_threads && (threads >> s.log_lanes) * group_bytes > most) ++s.log_lanes;
    const auto block_bytes = static_cast<std::size_t>((threads >> s.log_lanes) * group_bytes);
    shared_bytes = larger(shared_bytes, scratch_bytes(threads) + block_bytes);
    s.first_block = static_cast<int>(blocks);
    blocks += ceil_div<std::int64_t>(planes, threads >> s.log_lanes) * s.tiles;
    if (blocks > kMaxGrid) return cudaErrorInvalidValue;
  }
  shape = {static_cast<unsigned>(blocks), shared_bytes};
  return cudaSuccess;
}

}  // namespace litehrnet::plan_gated_depthwise
