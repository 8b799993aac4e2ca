// Backward pass of spatial weighting and of the batch norm before it. With do = grad_y, P pixels a plane, N images:
//
//   n = (x - mean) / sqrt(variance + eps)    z = norm_weight n + norm_bias (z = n = x without a norm)    y = z q
//   m = mean of z's plane    h = relu(W1 m + b1)    l = W2 h + b2    q = sigmoid(l)
//
//   dl = q (1 - q) sum(do z)    dh = [h > 0] W2^T dl    dm = W1^T dh    dz = do q + dm / P
//   grad norm_bias = sum(dz)    grad norm_weight = sum(dz n)            over images and pixels
//   dx = norm_weight / sqrt(variance + eps) (dz - grad norm_bias / (N P) - n grad norm_weight / (N P))
//
// where the last two terms are the batch statistics' part. As sums over a plane of do, do n and n give all sums above,
// one pass over the maps is enough: dx is k0 do + k1 (x - k2) + k3 with four numbers a plane, which who reads do and x
// next applies on load.
//
// Layout   grad_output, x [N, ., H, W] with contiguous planes and any image and plane stride; grad_x contiguous.
// Mapping  1  sums: a chunk of a plane of all branches for each group of 1 to 32 lanes, so that small planes share a
//             warp; the even plane beside it is copied to grad_kept.
//          2  gates: a block an image and branch. Rows of W1 and W2 are spread over 8 lanes; for the transposed
//             products warps take rows in turn and lanes columns, and the warps' shares are added up in order.
//          3  channels: a block a channel of all images. Lanes take images for the batch norm's sums, and hidden values
//             for those of the weights, where warps take images in turn.
//          4  apply, where grad_x is wanted: as 1.
// Traffic  1  reads grad_output and x once, writes grad_kept once. 2, 3  the weights for every image, and a few numbers
//          a plane, from L2. 4  reads y's half of grad_output and, with batch statistics, x; writes grad_x.
// Sums     fixed trees, parts and images in order: bitwise reproducible, no atomics.
// Limits   2.5 c + 1,024 accumulators (R = c / 4) within 48 KB of shared memory: c up to about 4,500 in fp32; images
//          below 2^31 elements.
#include "core/workspace.h"
#include "cuda/spatial_weighting_backward_gates.cuh"

namespace litehrnet {
namespace {

constexpr int kPlaneThreads = 64;            // of 1 and 4: those are 130 blocks
constexpr int kFlight = 4;                   // vectors of each map that a lane requests before it waits, in 1
constexpr int kApplyFlight = 2;              // in 4
constexpr int kSmallChunk = 512;             // pixels: Lite-HRNet's last stage gets 260 warps at batch 1
constexpr int kLargeChunk = 4096;            // 32 vectors a lane: where there are many, warps have less to set up
constexpr int kManyChunks = 4096;            // about what fills a large GPU

template <int Section::*kFirst>
__device__ __forceinline__ int branch_of(const Plan& p, int block) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && block >= p.section[b].*kFirst;
  return branch;
}

// Where one group of lanes works: a chunk of the plane of one channel of one image.
struct Chunk {
  int item, image, channel, pixel, end;  // pixel: the lane's first one
};

// False for groups past the last chunk.
template <int kVec>
__device__ __forceinline__ bool chunk_of_group(const SpatialWeightingBackwardBranch& r, const Section& s, int block,
                                               Chunk& c) {
  const int thread = static_cast<int>(threadIdx.x), group = thread >> s.log_lanes;
  c.item = (block - s.first_block) * (kPlaneThreads >> s.log_lanes) + group;
  if (c.item >= s.items) return false;
  const int plane = s.chunks_divisor.divide(c.item), chunk = c.item - plane * s.chunks;
  c.image = s.channels_divisor.divide(plane);
  c.channel = plane - c.image * r.channels;
  c.pixel = chunk * s.chunk_size + (thread & ((1 << s.log_lanes) - 1)) * kVec;
  c.end = smaller((chunk + 1) * s.chunk_size, r.height * r.width);
  return true;
}

// The plane of y's gradient.
template <class scalar_t>
__device__ __forceinline__ const scalar_t* grad_plane(const SpatialWeightingBackwardBranch& r, const Section& s,
                                                      const Chunk& c) {
  return static_cast<const scalar_t*>(r.grad_output) + c.image * r.grad_output_image_stride +
         (s.grad_first + s.grad_step * c.channel) * r.grad_output_plane_stride;
}

template <class scalar_t>
__device__ __forceinline__ const scalar_t* x_plane(const SpatialWeightingBackwardBranch& r, const Chunk& c) {
  return static_cast<const scalar_t*>(r.x) + c.image * r.x_image_stride + c.channel * r.x_plane_stride;
}

// First launch.
template <class scalar_t, int kVec>
__device__ __forceinline__ void sum_chunk(const Plan& p, int branch, int block) {
  using acc = acc_t<scalar_t>;
  const Section& s = p.section[branch];
  const SpatialWeightingBackwardBranch& r = p.params.branch[branch];
  Chunk c{};
  const bool active = chunk_of_group<kVec>(r, s, block, c);
  acc grad_sum = 0, product_sum = 0, normalised_sum = 0;
  if (active) {
    NormalisedChannel<acc> norm = {0, 1, 1, 0};
    if (r.norm.weight != nullptr) norm = normalised_channel(r.norm, c.channel, static_cast<acc>(p.params.eps));
    const scalar_t* grad = grad_plane<scalar_t>(r, s, c);
    const scalar_t* x = x_plane<scalar_t>(r, c);
    scalar_t* kept = static_cast<scalar_t*>(r.grad_kept) + c.image * r.grad_kept_image_stride +
                     c.channel * r.grad_kept_plane_stride;
    const bool copy = r.grad_kept != nullptr;
    const scalar_t* grad_of_kept = copy ? grad - r.grad_output_plane_stride : grad;
    const int step = kVec << s.log_lanes;
#pragma unroll 1
    for (int first = c.pixel; first < c.end; first += kFlight * step) {
      Vec<scalar_t, kVec> grads[kFlight], values[kFlight], copied[kFlight];
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        const int pixel = first + u * step;
        if (pixel < c.end) {
          grads[u] = load_vec<kVec>(grad + pixel);
          values[u] = load_vec<kVec>(x + pixel);
          if (copy) copied[u] = load_vec<kVec>(grad_of_kept + pixel);
        }
      }
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        const int pixel = first + u * step;
        if (pixel < c.end) {
#pragma unroll
          for (int e = 0; e < kVec; ++e) {
            const acc g = to_acc(grads[u].v[e]), n = norm.normalised(to_acc(values[u].v[e]));
            grad_sum += g;
            product_sum += g * n;
            normalised_sum += n;
          }
          if (copy) store_vec(kept + pixel, copied[u]);
        }
      }
    }
  }
  grad_sum = lanes_sum(grad_sum, 1 << s.log_lanes);
  product_sum = lanes_sum(product_sum, 1 << s.log_lanes);
  normalised_sum = lanes_sum(normalised_sum, 1 << s.log_lanes);
  if (active && (threadIdx.x & ((1u << s.log_lanes) - 1)) == 0) {
    acc* sums = static_cast<acc*>(s.sums) + static_cast<std::int64_t>(c.item) * kSums;
    sums[0] = grad_sum;
    sums[1] = product_sum;
    sums[2] = normalised_sum;
  }
}

// Fourth launch.
template <class scalar_t, int kVec>
__device__ __forceinline__ void apply_to_chunk(const Plan& p, int branch, int block) {
  using acc = acc_t<scalar_t>;
  const Section& s = p.section[branch];
  const SpatialWeightingBackwardBranch& r = p.params.branch[branch];
  Chunk c{};
  if (!chunk_of_group<kVec>(r, s, block, c)) return;
  const std::int64_t plane = static_cast<std::int64_t>(c.image) * r.channels + c.channel;
  const acc* k = static_cast<const acc*>(r.coefficients) + plane * kCoefficients;
  const acc k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3];
  const scalar_t* grad = grad_plane<scalar_t>(r, s, c);
  const scalar_t* x = x_plane<scalar_t>(r, c);
  scalar_t* grad_x = static_cast<scalar_t*>(r.grad_x) + plane * (r.height * r.width);
  const bool reads_x = r.norm.weight != nullptr && p.params.batch_statistics;  // else k1 is zero
  const int step = kVec << s.log_lanes;
#pragma unroll 1
  for (int first = c.pixel; first < c.end; first += kApplyFlight * step) {
    Vec<scalar_t, kVec> grads[kApplyFlight], values[kApplyFlight];
#pragma unroll
    for (int u = 0; u < kApplyFlight; ++u) {
      const int pixel = first + u * step;
      if (pixel < c.end) {
        grads[u] = load_vec<kVec>(grad + pixel);
        if (reads_x) values[u] = load_vec<kVec>(x + pixel);
      }
    }
#pragma unroll
    for (int u = 0; u < kApplyFlight; ++u) {
      const int pixel = first + u * step;
      if (pixel < c.end) {
#pragma unroll
        for (int e = 0; e < kVec; ++e) {
          const acc centred = reads_x ? to_acc(values[u].v[e]) - k2 : acc{0};
          grads[u].v[e] = from_acc<scalar_t>(k0 * to_acc(grads[u].v[e]) + k1 * centred + k3);
        }
        store_vec(grad_x + pixel, grads[u]);
      }
    }
  }
}

template <class scalar_t>
__global__ void __launch_bounds__(kPlaneThreads)
    spatial_weighting_backward_sums_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x), branch = branch_of<&Section::first_block>(plan, block);
  if (plan.section[branch].vec > 1) return sum_chunk<scalar_t, kVecElems<scalar_t>>(plan, branch, block);
  sum_chunk<scalar_t, 1>(plan, branch, block);
}

template <class acc>
__global__ void __launch_bounds__(kThreads)
    spatial_weighting_backward_gates_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x), branch = branch_of<&Section::first_gate_block>(plan, block);
  differentiate_gates(plan, branch, block - plan.section[branch].first_gate_block, dynamic_shared<acc>());
}

template <class acc>
__global__ void __launch_bounds__(kThreads)
    spatial_weighting_backward_channels_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x), branch = branch_of<&Section::first_channel>(plan, block);
  differentiate_channel(plan, branch, block - plan.section[branch].first_channel, dynamic_shared<acc>());
}

template <class scalar_t>
__global__ void __launch_bounds__(kPlaneThreads)
    spatial_weighting_backward_apply_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x), branch = branch_of<&Section::first_block>(plan, block);
  if (plan.section[branch].vec > 1) return apply_to_chunk<scalar_t, kVecElems<scalar_t>>(plan, branch, block);
  apply_to_chunk<scalar_t, 1>(plan, branch, block);
}

// `size` and `accumulator` in bytes.
Section make_section(const SpatialWeightingBackwardBranch& r, int batch, int size, int accumulator, std::int64_t pixels,
                     Workspace& workspace) {
  Section s{};
  const int plane = r.height * r.width, wide = kVecBytes / size, row_elems = accumulator == 8 ? 2 : 4;
  const auto aligned = [&](const void* map, std::int64_t image_stride, std::int64_t plane_stride) {
    return is_aligned(map, size, image_stride, plane_stride, kVecBytes);
  };
  const bool vectors = plane % wide == 0 && aligned(r.x, r.x_image_stride, r.x_plane_stride) &&
                       aligned(r.grad_output, r.grad_output_image_stride, r.grad_output_plane_stride) &&
                       aligned(r.grad_kept, r.grad_kept_image_stride, r.grad_kept_plane_stride) &&
                       aligned(r.grad_x, 0, 0);
  s.vec = vectors ? wide : 1;
  const auto target = static_cast<int>(
      smaller<std::int64_t>(larger<std::int64_t>(pixels / kManyChunks, kSmallChunk), kLargeChunk));
  s.chunk_size = round_up(ceil_div(plane, ceil_div(plane, target)), wide);
  s.chunks = ceil_div(plane, s.chunk_size);
  s.chunks_divisor = FastDivisor::of(s.chunks);
  s.channels_divisor = FastDivisor::of(r.channels);
  s.log_lanes = smaller(ceil_log2(ceil_div(ceil_div(s.chunk_size, s.vec), kFlight)), ceil_log2(kWarpSize));
  s.grad_first = r.grad_kept != nullptr ? 1 : 0;
  s.grad_step = r.grad_kept != nullptr ? 2 : 1;
  s.wide1 = r.channels % row_elems == 0 && is_aligned(r.w1, accumulator, 0, 0, row_elems * accumulator);
  s.wide2 = r.hidden % row_elems == 0 && is_aligned(r.w2, accumulator, 0, 0, row_elems * accumulator);
  const std::size_t planes = static_cast<std::size_t>(batch) * r.channels;
  s.sums = workspace.reserve(planes * s.chunks * kSums * accumulator);
  if (r.w1 != nullptr) {
    const std::size_t hidden = static_cast<std::size_t>(batch) * r.hidden * accumulator;
    s.planes = workspace.reserve(planes * (accumulator == 8 ? sizeof(GatedPlane<double>) : sizeof(GatedPlane<float>)));
    s.hidden = workspace.reserve(hidden);
    s.grad_hidden = workspace.reserve(hidden);
  }
  return s;
}

bool has_valid_sizes(const SpatialWeightingBackwardParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0) return false;
  for (int b = 0; b < params.branches; ++b) {
    const SpatialWeightingBackwardBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1) return false;
    const bool gates = r.w1 != nullptr, gates_anywhere = params.branch[0].w1 != nullptr;
    const bool wanted = r.grad_x != nullptr, wanted_anywhere = params.branch[0].grad_x != nullptr;
    if (gates != gates_anywhere || (gates && r.hidden < 1) || wanted != wanted_anywhere) return false;
    // Offsets in an image are 32 bits wide.
    const std::int64_t planes[] = {static_cast<std::int64_t>(r.height) * r.width * 2, r.x_plane_stride,
                                   r.grad_output_plane_stride * (r.grad_kept != nullptr ? 2 : 1)};
    for (const std::int64_t plane : planes) {
      if (plane < 0 || plane > kMaxGrid / r.channels) return false;
    }
  }
  return true;
}

std::int64_t count_pixels(const SpatialWeightingBackwardParams& params) {
  std::int64_t pixels = 0;
  for (int b = 0; b < params.branches; ++b) {
    const SpatialWeightingBackwardBranch& r = params.branch[b];
    pixels += static_cast<std::int64_t>(params.batch) * r.channels * r.height * r.width;
  }
  return pixels;
}

}  // namespace

std::size_t spatial_weighting_backward_workspace_bytes(const SpatialWeightingBackwardParams& params, DType dtype) {
  if (!has_valid_sizes(params)) return 0;
  const int size = static_cast<int>(element_size(dtype)), accumulator = static_cast<int>(accumulate_size(dtype));
  Workspace workspace(nullptr);
  for (int b = 0; b < params.branches; ++b)
    make_section(params.branch[b], params.batch, size, accumulator, count_pixels(params), workspace);
  return workspace.bytes();
}

cudaError_t launch_spatial_weighting_backward(const SpatialWeightingBackwardParams& params, DType dtype,
                                              cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  const int size = static_cast<int>(element_size(dtype)), accumulator = static_cast<int>(accumulate_size(dtype));
  const std::int64_t pixels = count_pixels(params);
  Plan plan{};
  plan.params = params;
  plan.gates = params.branch[0].w1 != nullptr;
  Workspace workspace(params.workspace);
  std::int64_t blocks = 0, gate_blocks = 0, channels = 0;
  std::size_t shared_bytes = 0;
  for (int b = 0; b < params.branches; ++b) {
    SpatialWeightingBackwardBranch& r = plan.params.branch[b];
    if (r.grad_kept == nullptr) r.grad_kept_image_stride = r.grad_kept_plane_stride = 0;
    Section& s = plan.section[b] = make_section(r, params.batch, size, accumulator, pixels, workspace);
    const std::int64_t items = static_cast<std::int64_t>(params.batch) * r.channels * s.chunks;
    if (items > kMaxGrid) return cudaErrorInvalidValue;
    s.items = static_cast<int>(items);
    s.first_block = static_cast<int>(blocks);
    s.first_gate_block = static_cast<int>(gate_blocks);
    s.first_channel = static_cast<int>(channels);
    blocks += ceil_div<std::int64_t>(items, kPlaneThreads >> s.log_lanes);
    gate_blocks += params.batch;
    channels += r.channels;
    if (blocks > kMaxGrid || gate_blocks > kMaxGrid || channels > kMaxGrid) return cudaErrorInvalidValue;
    const std::size_t values = 2 * (static_cast<std::size_t>(round_up(r.channels, kVectorPad)) +
                                    static_cast<std::size_t>(round_up(r.hidden, kVectorPad))) + kWarps * kSpan;
    shared_bytes = larger(shared_bytes, values * accumulator);
  }
  if (plan.gates && shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  const dim3 planes(static_cast<unsigned>(blocks)), images(static_cast<unsigned>(gate_blocks));
  return visit_dtype(dtype, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc = acc_t<scalar_t>;
    const bool any = params.batch > 0;
    cudaError_t error = cudaSuccess;
    if (any)
      error = launch(spatial_weighting_backward_sums_kernel<scalar_t>, planes, dim3(kPlaneThreads), 0, stream, plan);
    if (any && plan.gates && error == cudaSuccess)
      error =
          launch(spatial_weighting_backward_gates_kernel<acc>, images, dim3(kThreads), shared_bytes, stream, plan);
    if (error == cudaSuccess)  // without images too: sums of none are zero
      error = launch(spatial_weighting_backward_channels_kernel<acc>, dim3(static_cast<unsigned>(channels)),
                     dim3(kThreads), kWeights * kThreads * sizeof(acc), stream, plan);
    if (any && params.branch[0].grad_x != nullptr && error == cudaSuccess)
      error = launch(spatial_weighting_backward_apply_kernel<scalar_t>, planes, dim3(kPlaneThreads), 0, stream, plan);
    return error;
  });
}

}  // namespace litehrnet
