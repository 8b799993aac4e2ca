// depthwise_conv_batch_norm_backward, after the batch norm's own backward pass, for all branches i at once:
//
//   grad filtered  = k0 grad_y + k1 (filtered - k2) + k3          computed on load, never stored
//   grad_x(q)      = sum over offsets o of weight(o) grad filtered(q - o)
//   grad_weight(o) = sum over images and pixels q of x(q) gate(q) grad filtered(q - o)
//
// grad_x is the gradient of x gate. Outside the map grad filtered is zero. Both sums take the same nine values around a
// pixel q, so that x needs no halo: it goes from memory to registers. Sums in fp32 (fp64 for fp64).
//
// Layout   planes contiguous; grad_y, x, grad_x with any image and plane stride. grad_x apart from all that is read.
// Mapping  tiles of whole rows, see row_tiles.cuh; a unit is one channel of a few images, one image mostly. A group
//          stages grad filtered of its rows and one above and below as accumulators, with a zero column left and right,
//          while its first vectors of x travel. A lane then computes vectors of outputs whose accumulators take up to
//          16 bytes, and keeps nine sums for the weights. For small planes of large batches, and where a channel would
//          have more than kImageParts parts, a group takes several images one after the other.
// Traffic  reads grad_y and filtered (rows + 2) / rows times at most (from memory once, the rest from L2), x once;
//          writes grad_x once, and nine numbers for 128 pixels or more with large batches: below 2 % of fp32 maps.
// Sums     a lane's in order, lanes by a fixed tree, warps in order, parts in order (reduction.cuh): reproducible.
// Limits   in 48 KB of shared memory 3 (W + 2 vectors) accumulators and a tile's gates: W up to about 2,000 in fp64 and
//          4,000 elsewhere; with gates of as high a resolution as the maps 1,500 and 3,000. N c < 2^31.
#include "core/reduction.cuh"
#include "core/row_tiles.cuh"
#include "cuda/depthwise_conv_batch_norm_backward.h"

namespace litehrnet {
namespace {

// Blocks a multiprocessor: registers for code without spills everywhere, 128 a thread, 168 for fp64.
template <class scalar_t>
constexpr int kBlocks = sizeof(scalar_t) == 8 ? 3 : 4;
constexpr int kFlight = 2;  // vectors of grad_y and filtered that a lane requests before it waits
constexpr int kTaps = 9;
constexpr int kImageParts = 64;   // of a channel; with more, groups take several images
constexpr int kPartPixels = 128;  // of a part, at least, in large batches
constexpr int kReductionThreads = kReductionResults;
constexpr std::size_t kScratchBytes = 288;  // sums of the warps
static_assert(kLargeThreads / kWarpSize * kTaps * sizeof(double) <= kScratchBytes && kScratchBytes % kVecBytes == 0,
              "scratch holds nine sums per warp");

struct Section : RowTiles {
  void* parts;  // [groups of images, tiles][c, 9]
  int images;   // of a unit
  int units;
};

struct Plan {
  DepthwiseConvBatchNormBackwardParams params;
  Section section[kMaxBranches];
};

template <class scalar_t, int kVec>
__device__ void backward_tile(const Plan& p, int branch, int block, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  const Section& s = p.section[branch];
  const DepthwiseConvBatchNormBackwardBranch& r = p.params.branch[branch];
  const PositionGates& gates = p.params.gates;
  const RowTile t = row_tile(s, block, s.units, r.height);
  const int image_group = t.unit / r.channels, channel = t.unit - image_group * r.channels;
  const int width = r.width, vectors = width / kVec, stride = width + 2 * kVec;
  const int wanted = t.rows == 0 ? 0 : (t.rows + 2) * vectors, items = t.rows * vectors;
  const int groups = static_cast<int>(blockDim.x) >> s.log_lanes;
  acc* warp_sums = reinterpret_cast<acc*>(shared);
  acc* staged = reinterpret_cast<acc*>(shared + kScratchBytes) +
                t.group * (s.rows + 2) * stride;  // [rows + 2][stride], pixel 0 at kVec
  acc* staged_gates =
      reinterpret_cast<acc*>(shared + kScratchBytes) + groups * (s.rows + 2) * stride + t.group * s.gates;

  acc grad_weight[kTaps] = {};
#pragma unroll 1
  for (int row = t.lane; row < t.rows + 2; row += t.lanes)
    staged[row * stride + kVec - 1] = staged[row * stride + kVec + width] = 0;

#pragma unroll 1
  for (int i = 0; i < s.images; ++i) {
    const int image = smaller(image_group * s.images + i, p.params.batch - 1);
    const bool live = image == image_group * s.images + i;
    const std::int64_t plane = static_cast<std::int64_t>(image) * r.channels + channel;
    const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + channel * r.x_plane_stride +
                        t.row0 * width;
    scalar_t* grad_x = static_cast<scalar_t*>(r.grad_x) + image * r.grad_x_image_stride +
                       channel * r.grad_x_plane_stride + t.row0 * width;
    Vec<scalar_t, kVec> next;  // of x, travels while something else is done
#pragma unroll
    for (int e = 0; e < kVec; ++e) next.v[e] = from_acc<scalar_t>(0);
    if (t.lane < items) next = load_vec<kVec>(x + t.lane * kVec);

    const scalar_t* grad_y = static_cast<const scalar_t*>(r.grad_y) + image * r.grad_y_image_stride +
                             channel * r.grad_y_plane_stride;
    const scalar_t* filtered = static_cast<const scalar_t*>(r.filtered) + plane * r.height * width;
    const acc* k = static_cast<const acc*>(r.coefficients) + plane * 4;
    const acc k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3];
#pragma unroll 1
    for (int first = t.lane; first < wanted; first += kFlight << s.log_lanes) {
      Vec<scalar_t, kVec> gradients[kFlight], values[kFlight];
      const auto for_each_vector = [&](auto visit) {
#pragma unroll
        for (int u = 0; u < kFlight; ++u) {
          const int v = first + (u << s.log_lanes), row = s.vectors_divisor.divide(v), y = t.row0 + row - 1;
          if (v < wanted) visit(u, row, y, (v - row * vectors) * kVec, y >= 0 && y < r.height);
        }
      };
      for_each_vector([&](int u, int, int y, int column, bool inside) {
        if (!inside) return;
        gradients[u] = load_vec<kVec>(grad_y + y * width + column);
        values[u] = load_vec<kVec>(filtered + y * width + column);
      });
      for_each_vector([&](int u, int row, int, int column, bool inside) {
        Vec<acc, kVec> grad;
#pragma unroll
        for (int e = 0; e < kVec; ++e)
          grad.v[e] = inside ? k0 * to_acc(gradients[u].v[e]) + (k1 * (to_acc(values[u].v[e]) - k2) + k3) : 0;
        store_vec(staged + row * stride + kVec + column, grad);
      });
    }
    GateRows gate_range{};
    if (gates.logits != nullptr) {
      const int gate_channel = r.gate_channel + channel;
      gate_range = gate_rows(gates, t.row0, t.row0 + t.rows - 1, r.height);
      if (t.rows > 0)
        stage_gates<scalar_t>(gates, normalised_channel(gates.norm, gate_channel, static_cast<acc>(gates.eps)), image,
                              gate_channel, gate_range, t, staged_gates);
    }
    __syncthreads();  // grad filtered and gates of every group are staged

    acc weight[kTaps];
    const acc* w = static_cast<const acc*>(r.weight) + channel * kTaps;
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) weight[tap] = w[tap];
#pragma unroll 1
    for (int v = t.lane; v < items && live; v += t.lanes) {
      const int row = s.vectors_divisor.divide(v), column = (v - row * vectors) * kVec;
      acc input[kVec], out[kVec] = {};
#pragma unroll
      for (int e = 0; e < kVec; ++e) input[e] = to_acc(next.v[e]);
      if (v + t.lanes < items) next = load_vec<kVec>(x + (v + t.lanes) * kVec);
      if (gates.logits != nullptr) {
        const acc* gate_row =
            staged_gates + (nearest_position(t.row0 + row, gates.height, r.height) - gate_range.first) * gates.width;
#pragma unroll
        for (int e = 0; e < kVec; ++e) input[e] *= gate_row[nearest_position(column + e, gates.width, width)];
      }
#pragma unroll
      for (int ky = 0; ky < 3; ++ky) {
        const acc* in = staged + (row + ky) * stride + kVec + column;
        const auto middle = load_vec<kVec>(in);
        acc around[kVec + 2];
        around[0] = in[-1];
        around[kVec + 1] = in[kVec];
#pragma unroll
        for (int e = 0; e < kVec; ++e) around[e + 1] = middle.v[e];
#pragma unroll
        for (int kx = 0; kx < 3; ++kx) {
          const int tap = kTaps - 1 - (ky * 3 + kx);
#pragma unroll
          for (int e = 0; e < kVec; ++e) {
            out[e] += weight[tap] * around[e + kx];
            grad_weight[tap] += input[e] * around[e + kx];
          }
        }
      }
      Vec<scalar_t, kVec> result;
#pragma unroll
      for (int e = 0; e < kVec; ++e) result.v[e] = from_acc<scalar_t>(out[e]);
      store_vec(grad_x + v * kVec, result);
    }
    if (i + 1 < s.images) __syncthreads();  // what is staged has been read
  }

  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) grad_weight[k] = lanes_sum(grad_weight[k], smaller(t.lanes, kWarpSize));
  if (t.lanes > kWarpSize) {  // the same for all threads of the block
    if (threadIdx.x % kWarpSize == 0) {
#pragma unroll
      for (int k = 0; k < kTaps; ++k) warp_sums[warp * kTaps + k] = grad_weight[k];
    }
    __syncthreads();  // the warps' sums are complete
    if (t.lane == 0) {
#pragma unroll 1
      for (int other = 1; other < t.lanes / kWarpSize; ++other) {
#pragma unroll
        for (int k = 0; k < kTaps; ++k) grad_weight[k] += warp_sums[(warp + other) * kTaps + k];
      }
    }
  }
  if (t.rows > 0 && t.lane == 0) {
    acc* part = static_cast<acc*>(s.parts) +
                ((static_cast<std::int64_t>(image_group) * s.tiles + t.tile) * r.channels + channel) * kTaps;
#pragma unroll
    for (int k = 0; k < kTaps; ++k) part[k] = grad_weight[k];
  }
}

template <class scalar_t>
__global__ void __launch_bounds__(kLargeThreads, kBlocks<scalar_t>)
    depthwise_conv_batch_norm_backward_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x), branch = branch_of(plan.section, plan.params.branches, block);
  visit_vec<acc_t<scalar_t>>(plan.section[branch].vec, [&](auto vec) {
    backward_tile<scalar_t, decltype(vec)::value>(plan, branch, block - plan.section[branch].first_block,
                                                  dynamic_shared<unsigned char>());
  });
}

template <class acc>
__global__ void __launch_bounds__(kReductionThreads) reductions_kernel(const __grid_constant__ Reductions reductions) {
  reduce_parts<acc>(reductions, static_cast<int>(blockIdx.x));
}

// Images that one group takes, from sizes alone.
int unit_images(int batch, int height, int width) {
  const std::int64_t tiles = static_cast<std::int64_t>(batch) * row_tile_count(batch, height, width);
  auto images = static_cast<int>(ceil_div<std::int64_t>(tiles, kImageParts));
  if (batch >= kLargeBatch) images = larger(images, ceil_div(kPartPixels, row_tile_rows(batch, height, width) * width));
  return ceil_div(batch, ceil_div(batch, smaller(images, batch)));
}

// Parts of a channel.
std::int64_t part_count(const DepthwiseConvBatchNormBackwardParams& params, int branch) {
  if (params.batch == 0) return 0;  // sums of none are zero
  const DepthwiseConvBatchNormBackwardBranch& r = params.branch[branch];
  return static_cast<std::int64_t>(ceil_div(params.batch, unit_images(params.batch, r.height, r.width))) *
         row_tile_count(params.batch, r.height, r.width);
}

std::size_t parts_bytes(const DepthwiseConvBatchNormBackwardParams& params, int branch, DType dtype) {
  const std::int64_t sums = part_count(params, branch) * params.branch[branch].channels * kTaps;
  return round_up<std::size_t>(sums * accumulate_size(dtype), kVecBytes);
}

bool has_valid_sizes(const DepthwiseConvBatchNormBackwardParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0) return false;
  for (int b = 0; b < params.branches; ++b) {
    const DepthwiseConvBatchNormBackwardBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1 || r.channels > kMaxGrid / kTaps) return false;
    const std::int64_t planes = static_cast<std::int64_t>(params.batch) * r.channels;
    if (planes + kLargeThreads > kMaxGrid || static_cast<std::int64_t>(r.height + 2) * r.width > kMaxGrid) return false;
  }
  return true;
}

}  // namespace

std::size_t depthwise_conv_batch_norm_backward_workspace_bytes(const DepthwiseConvBatchNormBackwardParams& params,
                                                               DType dtype) {
  if (!has_valid_sizes(params)) return 0;
  std::size_t bytes = 0;
  for (int b = 0; b < params.branches; ++b) bytes += parts_bytes(params, b, dtype);
  return bytes;
}

Reductions depthwise_conv_batch_norm_backward_reductions(const DepthwiseConvBatchNormBackwardParams& params,
                                                         DType dtype) {
  Reductions reductions{};
  if (!has_valid_sizes(params)) return reductions;
  reductions.count = params.branches;
  const auto* parts = static_cast<const unsigned char*>(params.workspace);
  for (int b = 0; b < params.branches; ++b) {
    Reduction& item = reductions.item[b];
    item.parts = parts;
    item.result = params.branch[b].grad_weight;
    item.count = params.branch[b].channels * kTaps;
    item.part_count = static_cast<int>(part_count(params, b));
    if (parts != nullptr) parts += parts_bytes(params, b, dtype);
  }
  return reductions;
}

cudaError_t launch_depthwise_conv_batch_norm_backward(const DepthwiseConvBatchNormBackwardParams& params, DType dtype,
                                                      cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  const int size = static_cast<int>(element_size(dtype)), threads = row_tile_threads(params.batch);
  Plan plan{};
  plan.params = params;
  auto* parts = static_cast<unsigned char*>(params.workspace);
  std::size_t shared_bytes = 0;
  std::int64_t blocks = 0;
  for (int b = 0; b < params.branches; ++b) {
    const DepthwiseConvBatchNormBackwardBranch& r = params.branch[b];
    int vec = kVecBytes / static_cast<int>(accumulate_size(dtype));
    while (vec > 1 &&
           (r.width % vec != 0 ||
            !is_aligned(r.grad_y, size, r.grad_y_image_stride, r.grad_y_plane_stride, vec * size) ||
            !is_aligned(r.filtered, size, 0, 0, vec * size) ||
            !is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, vec * size) ||
            !is_aligned(r.grad_x, size, r.grad_x_image_stride, r.grad_x_plane_stride, vec * size)))
      vec /= 2;
    Section& s = plan.section[b];
    static_cast<RowTiles&>(s) = make_row_tiles(
        params.batch, r.height, r.width, vec, params.gates, 0, kScratchBytes,
        [&](const RowTiles& tiles) {
          const auto staged = static_cast<std::size_t>(tiles.rows + 2) * (r.width + 2 * vec);
          return (tiles.gates + staged) * accumulate_size(dtype);
        },
        shared_bytes);
    s.parts = parts;
    parts += parts_bytes(params, b, dtype);
    s.images = unit_images(params.batch, r.height, r.width);
    s.units = ceil_div(params.batch, s.images) * r.channels;
    s.first_block = static_cast<int>(blocks);
    blocks += ceil_div<std::int64_t>(s.units, threads >> s.log_lanes) * s.tiles;
    if (blocks > kMaxGrid) return cudaErrorInvalidValue;
  }
  if (shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  return visit_dtype(dtype, [&](auto zero) {
    return launch(depthwise_conv_batch_norm_backward_kernel<decltype(zero)>, dim3(static_cast<unsigned>(blocks)),
                  dim3(threads), shared_bytes, stream, plan);
  });
}

cudaError_t launch_reductions(const Reductions& reductions, DType dtype, cudaStream_t stream) {
  if (reductions.count < 0 || reductions.count > kMaxReductions) return cudaErrorInvalidValue;
  const int blocks = reduction_blocks(reductions);
  if (blocks == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(blocks)), block(kReductionThreads);
  if (dtype == DType::kFloat64) return launch(reductions_kernel<double>, grid, block, 0, stream, reductions);
  return launch(reductions_kernel<float>, grid, block, 0, stream, reductions);
}

}  // namespace litehrnet
