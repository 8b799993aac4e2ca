// spatial_weighting: out_i[n,2k] = kept_i[n,k],
//                    out_i[n,2k+1] = x_i[n,k] * sigmoid(W2 relu(W1 mean(x_i[n]) + b1) + b2)[k]
//
// for all branches i in one launch: every channel's gate, and the concatenation and channel shuffle that end a
// conditional channel weighting block. Without a kept half, out_i[n,k] is the gated channel. W1 [R, c], W2 [c, R];
// accumulation in fp32 (fp64 for fp64). In training x_i stands for norm_i(x_i), a batch norm whose statistics are
// known: an affine map of every channel, applied to pixels when they are loaded and to the means of the channels.
//
// Layout   x_i, kept_i [N, c_i, H_i, W_i], planes contiguous, any image and plane stride; out_i contiguous.
// Mapping  tile = G channels x a range of pixels of one image and branch: whole planes where they fit kSmallTile pixels
//          (kLargeTile for large batches), else a part of one plane. Every tile computes its image's means and hidden
//          values anew, and the gates of its own channels: 8 lanes an output, weights in vectors. The first weights and
//          the first kFlight vectors of both halves are requested before the first barrier, and travel meanwhile.
//          Without partial sums (the op on its own) a tile is a whole image; its warps first sum a plane each.
// Traffic  reads x and kept once, writes out once. A tile also reads its image's partial sums, W1 (25 KB at 160
//          channels in fp32, against 24 KB of pixels read and written; 400 bytes at 20 channels) and G rows of W2: L2.
//          Without partial sums x is read twice, the second time from L2 where it fits.
// Sums     partial sums in order, pixels and products by fixed trees: bitwise reproducible, no atomics.
// Training a kernel of its own, so that inference holds no registers for it: weights in the accumulation type, a batch
//          norm or, without one, the identity; three values a channel of the tile instead of its gate alone.
// Limits   c + R + G accumulators, c + R + 3G in training, within 48 KB of shared memory: c up to about 5,000 in fp32,
//          2,800 in training where a tile is an image; images below 2^31 values.
#include "core/batch_norm.cuh"
#include "core/reduce.cuh"
#include "core/sigmoid.cuh"
#include "cuda/spatial_weighting.h"

namespace litehrnet {
namespace {

constexpr int kThreads = 256;
constexpr int kSmallTile =
    1536;  // pixels of x: 1.5 16-byte fp32 vectors a thread; simulated at batch 1: 6.0k cycles, 8.1k with half of both
constexpr int kLargeTile = 3072;             // fewer tiles compute the gates again: 36 % fewer instructions in all
constexpr int kLargeBatch = 8;               // images from which on the large tile is used
constexpr int kFlight = 2;                   // vectors of each half that a thread requests before it waits
constexpr int kLanes = 8;                    // of an output of either matrix
constexpr int kOutputs = kThreads / kLanes;  // at a time
constexpr int kSteps1 = 5;     // pieces of a row of W1 per lane: 160 channels, the most of the published networks
constexpr int kSteps2 = 2;     // pieces of a row of W2 per lane: 64 hidden values, above their 40
constexpr int kSumFlight = 4;  // partial sums that a thread requests before it waits
static_assert(kWarpSize % kLanes == 0, "an output's lanes are in one warp");

struct Section {
  FastDivisor vectors_divisor;     // vectors of a channel's pixels in a tile
  int first_tile;                  // numbered over all branches
  int groups, chunks;              // tiles of an image: groups of channels x chunks of pixels
  int group_channels, chunk_size;  // channels, pixels of a tile
  int x_plane_stride, kept_plane_stride;
  int vec;
  int wide1, wide2;  // rows of W1, W2 may be read in vectors
};

struct Plan {
  SpatialWeightingParams params;
  Section section[kMaxBranches];
};

// The affine map that a branch's batch norm is; the identity without one.
template <class acc>
__device__ __forceinline__ NormalisedChannel<acc> affine_channel(const SpatialWeightingBranch& r, int channel,
                                                                acc eps) {
  if (r.norm.weight == nullptr) return {0, 1, 1, 0};
  return normalised_channel(r.norm, channel, eps);
}

// The mean of every channel of one image, from partial sums or from the pixels.
template <class scalar_t, int kVec, bool kTraining>
__device__ __forceinline__ void compute_means(const SpatialWeightingBranch& r, int image, acc_t<scalar_t> eps,
                                              acc_t<scalar_t>* mean) {
  using acc = acc_t<scalar_t>;
  const auto store_mean = [&](int channel, acc value) {
    if constexpr (kTraining) value = affine_channel(r, channel, eps).apply(value);
    mean[channel] = value;
  };
  const int thread = static_cast<int>(threadIdx.x), pixels = r.height * r.width;
  if (r.partial_sums != nullptr) {
    const acc* sums = static_cast<const acc*>(r.partial_sums) + static_cast<std::int64_t>(image) * r.channels * r.tiles;
#pragma unroll 1
    for (int channel = thread; channel < r.channels; channel += kThreads) {
      acc sum = 0;
#pragma unroll 1
      for (int first = 0; first < r.tiles; first += kSumFlight) {
        acc part[kSumFlight];
#pragma unroll
        for (int u = 0; u < kSumFlight; ++u) part[u] = first + u < r.tiles ? sums[channel * r.tiles + first + u] : 0;
#pragma unroll
        for (int u = 0; u < kSumFlight; ++u) sum += part[u];
      }
      store_mean(channel, sum / static_cast<acc>(pixels));
    }
  } else {
    const scalar_t* x = static_cast<const scalar_t*>(r.x) + image * r.x_image_stride;
#pragma unroll 1
    for (int channel = thread / kWarpSize; channel < r.channels; channel += kThreads / kWarpSize) {
      acc sum = 0;
#pragma unroll 2
      for (int pixel = thread % kWarpSize * kVec; pixel < pixels; pixel += kWarpSize * kVec) {
        const auto values = load_vec<kVec>(x + channel * r.x_plane_stride + pixel);
#pragma unroll
        for (int e = 0; e < kVec; ++e) sum += to_acc(values.v[e]);
      }
      sum = lanes_sum<kWarpSize>(sum);
      if (thread % kWarpSize == 0) store_mean(channel, sum / static_cast<acc>(pixels));
    }
  }
  for (int i = r.channels + thread; i < round_up(r.channels, kVectorPad); i += kThreads) mean[i] = 0;
}

// One tile of one branch. `shared` holds means [c] and hidden values [R], both padded with zeros, and gates [G]; with
// kTraining gated values are (x - shift [G]) gate + offset [G], and gates have the batch norm's scale in them.
// A loop over tiles needs a barrier between two of them.
template <class scalar_t, int kVec, bool kTraining>
__device__ void gate_tile(const Plan& p, int branch, int tile, unsigned char* shared) {
  using acc = acc_t<scalar_t>;
  using weight_t = std::conditional_t<kTraining, acc, scalar_t>;
  const Section& s = p.section[branch];
  const SpatialWeightingBranch& r = p.params.branch[branch];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, slot = thread / kLanes;
  const int per_image = s.groups * s.chunks, image = tile / per_image, in_image = tile - image * per_image;
  const int group = in_image / s.chunks, chunk = in_image - group * s.chunks;
  const int channel0 = group * s.group_channels, channels = smaller(s.group_channels, r.channels - channel0);
  const int pixels = r.height * r.width, pixel0 = chunk * s.chunk_size;
  const int vectors = s.chunk_size / kVec, items = channels * vectors;  // the last chunk is cut at the plane's end
  acc* mean = reinterpret_cast<acc*>(shared);
  acc* hidden = mean + round_up(r.channels, kVectorPad);
  acc* gate = hidden + round_up(r.hidden, kVectorPad);
  [[maybe_unused]] acc* shift = gate + s.group_channels;
  [[maybe_unused]] acc* offset = shift + s.group_channels;
  const acc eps = static_cast<acc>(p.params.eps);

  const auto* w1 = static_cast<const weight_t*>(r.w1);
  const auto* w2 = static_cast<const weight_t*>(r.w2);
  MatrixRow<weight_t, kLanes, kSteps1> row1;
  MatrixRow<weight_t, kLanes, kSteps2> row2;
  if (slot < r.hidden) row1.load(w1 + slot * r.channels, 0, r.channels, s.wide1, lane);
  if (slot < channels) row2.load(w2 + (channel0 + slot) * r.hidden, 0, r.hidden, s.wide2, lane);

  const bool interleave = r.kept != nullptr;
  const scalar_t* x =
      static_cast<const scalar_t*>(r.x) + image * r.x_image_stride + channel0 * r.x_plane_stride + pixel0;
  const scalar_t* kept =
      static_cast<const scalar_t*>(r.kept) + image * r.kept_image_stride + channel0 * r.kept_plane_stride + pixel0;
  const int out_stride = interleave ? 2 * pixels : pixels;
  scalar_t* out =
      static_cast<scalar_t*>(r.out) + (static_cast<std::int64_t>(image) * r.channels + channel0) * out_stride + pixel0;
  const auto for_each_vector =
      [&](int first, auto visit) {  // visit(u, channel, pixel): this thread's kFlight vectors from item `first` on
#pragma unroll
        for (int u = 0; u < kFlight; ++u) {
          const int item = first + u * kThreads, channel = s.vectors_divisor.divide(item),
                    pixel = (item - channel * vectors) * kVec;
          if (item < items && pixel0 + pixel < pixels) visit(u, channel, pixel);
        }
      };
  Vec<scalar_t, kVec> gated[kFlight], copied[kFlight];
  const auto request_gated = [&](int first) {
    for_each_vector(first, [&](int u, int channel, int pixel) {
      gated[u] = load_vec<kVec>(x + channel * s.x_plane_stride + pixel);
    });
  };
  const auto request_copied = [&](int first) {
    for_each_vector(first, [&](int u, int channel, int pixel) {
      copied[u] = load_vec<kVec>(kept + channel * s.kept_plane_stride + pixel);
    });
  };
  request_gated(thread);
  if (interleave) request_copied(thread);

  compute_means<scalar_t, kVec, kTraining>(r, image, eps, mean);
  __syncthreads();  // means are complete

  if (interleave) {
#pragma unroll 1
    for (int first = thread; first < items; first += kFlight * kThreads) {
      if (first != thread) request_copied(first);
      for_each_vector(first,
                      [&](int u, int channel, int pixel) { store_vec(out + channel * out_stride + pixel, copied[u]); });
    }
  }

#pragma unroll 1
  for (int output0 = 0; output0 < r.hidden; output0 += kOutputs) {
    const int output = output0 + slot;
    acc sum = 0;
    if (output < r.hidden) {
#pragma unroll 1
      for (int first = 0; first < r.channels; first += row1.kSpan) {
        if (output0 > 0 || first > 0) row1.load(w1 + output * r.channels, first, r.channels, s.wide1, lane);
        sum += row1.dot(mean, first, r.channels, lane);
      }
    }
    sum = lanes_sum<kLanes>(sum);
    if (lane == 0 && output < r.hidden) {
      sum += to_acc(static_cast<const weight_t*>(r.b1)[output]);
      hidden[output] = sum < 0 ? 0 : sum;
    }
  }
  for (int i = r.hidden + thread; i < round_up(r.hidden, kVectorPad); i += kThreads) hidden[i] = 0;
  __syncthreads();  // hidden values are complete

#pragma unroll 1
  for (int output0 = 0; output0 < channels; output0 += kOutputs) {
    const int output = output0 + slot;
    acc sum = 0;
    if (output < channels) {
#pragma unroll 1
      for (int first = 0; first < r.hidden; first += row2.kSpan) {
        if (output0 > 0 || first > 0) row2.load(w2 + (channel0 + output) * r.hidden, first, r.hidden, s.wide2, lane);
        sum += row2.dot(hidden, first, r.hidden, lane);
      }
    }
    sum = lanes_sum<kLanes>(sum);
    if (lane == 0 && output < channels) {
      acc factor = sigmoid(sum + to_acc(static_cast<const weight_t*>(r.b2)[channel0 + output]));
      if constexpr (kTraining) {
        const NormalisedChannel<acc> norm = affine_channel(r, channel0 + output, eps);
        shift[output] = norm.mean;
        offset[output] = norm.bias * factor;
        factor *= norm.scale;
      }
      gate[output] = factor;
    }
  }
  __syncthreads();  // gates are complete

  scalar_t* gated_out = interleave ? out + pixels : out;
#pragma unroll 1
  for (int first = thread; first < items; first += kFlight * kThreads) {
    if (first != thread) request_gated(first);
    for_each_vector(first, [&](int u, int channel, int pixel) {
      const acc factor = gate[channel];
      if constexpr (kTraining) {
        const acc mean_of_x = shift[channel], bias = offset[channel];
#pragma unroll
        for (int e = 0; e < kVec; ++e)
          gated[u].v[e] = from_acc<scalar_t>((to_acc(gated[u].v[e]) - mean_of_x) * factor + bias);
      } else {
#pragma unroll
        for (int e = 0; e < kVec; ++e) gated[u].v[e] = from_acc<scalar_t>(to_acc(gated[u].v[e]) * factor);
      }
      store_vec(gated_out + channel * out_stride + pixel, gated[u]);
    });
  }
}

template <class scalar_t, bool kTraining>
__device__ __forceinline__ void spatial_weighting_tile(const Plan& p, int tile, unsigned char* shared) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && tile >= p.section[b].first_tile;
  const int own = tile - p.section[branch].first_tile;
  if (p.section[branch].vec > 1) return gate_tile<scalar_t, kVecElems<scalar_t>, kTraining>(p, branch, own, shared);
  gate_tile<scalar_t, 1, kTraining>(p, branch, own, shared);
}

template <class scalar_t>
__global__ void __launch_bounds__(kThreads, 2) spatial_weighting_forward_kernel(const __grid_constant__ Plan plan) {
  spatial_weighting_tile<scalar_t, false>(plan, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

template <class scalar_t>
__global__ void __launch_bounds__(kThreads, 2)
    spatial_weighting_training_forward_kernel(const __grid_constant__ Plan plan) {
  spatial_weighting_tile<scalar_t, true>(plan, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

Section make_section(const SpatialWeightingBranch& r, int batch, int size, int weight_size) {
  Section s{};
  s.x_plane_stride = static_cast<int>(r.x_plane_stride);
  s.kept_plane_stride = static_cast<int>(r.kept_plane_stride);
  const int pixels = r.height * r.width, wide = kVecBytes / size, row_elems = weight_size == 8 ? 2 : 4;
  const bool vectors = pixels % wide == 0 && is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, kVecBytes) &&
                       is_aligned(r.kept, size, r.kept_image_stride, r.kept_plane_stride, kVecBytes) &&
                       is_aligned(r.out, size, 0, 0, kVecBytes);
  s.vec = vectors ? wide : 1;
  const int target = batch < kLargeBatch ? kSmallTile : kLargeTile;
  if (r.partial_sums == nullptr) {  // one tile sums the whole image
    s.group_channels = r.channels;
    s.chunks = 1;
  } else {
    const int groups = ceil_div(r.channels, smaller(larger(target / pixels, 1), r.channels));
    s.group_channels = ceil_div(r.channels, groups);
    s.chunks = ceil_div(pixels, target);
  }
  s.groups = ceil_div(r.channels, s.group_channels);
  s.chunk_size = round_up(ceil_div(pixels, s.chunks), s.vec);
  s.chunks = ceil_div(pixels, s.chunk_size);
  s.vectors_divisor = FastDivisor::of(s.chunk_size / s.vec);
  s.wide1 = r.channels % row_elems == 0 && is_aligned(r.w1, weight_size, 0, 0, row_elems * weight_size);
  s.wide2 = r.hidden % row_elems == 0 && is_aligned(r.w2, weight_size, 0, 0, row_elems * weight_size);
  return s;
}

}  // namespace

cudaError_t launch_spatial_weighting_forward(const SpatialWeightingParams& params, DType dtype, cudaStream_t stream) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0) return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  Plan plan{};
  plan.params = params;
  const bool training = params.accumulate_weights;
  const int size = static_cast<int>(element_size(dtype)), accumulator = static_cast<int>(accumulate_size(dtype));
  std::size_t shared_bytes = 0;
  std::int64_t tiles = 0;
  for (int b = 0; b < params.branches; ++b) {
    SpatialWeightingBranch& r = plan.params.branch[b];
    if (r.channels < 1 || r.hidden < 1 || r.height < 1 || r.width < 1) return cudaErrorInvalidValue;
    if (r.partial_sums != nullptr && r.tiles < 1) return cudaErrorInvalidValue;
    if (r.norm.weight != nullptr && !training) return cudaErrorInvalidValue;
    if (r.kept == nullptr) r.kept_image_stride = r.kept_plane_stride = 0;
    const std::int64_t planes[] = {static_cast<std::int64_t>(r.height) * r.width * 2, r.x_plane_stride,
                                   r.kept_plane_stride};
    for (const std::int64_t plane : planes) {
      if (plane < 0 || plane > kMaxGrid / r.channels)
        return cudaErrorInvalidValue;  // offsets in an image are 32 bits wide
    }
    Section& s = plan.section[b] = make_section(r, params.batch, size, training ? accumulator : size);
    s.first_tile = static_cast<int>(tiles);
    tiles += static_cast<std::int64_t>(params.batch) * s.groups * s.chunks;
    if (tiles > kMaxGrid) return cudaErrorInvalidValue;
    const int values =
        round_up(r.channels, kVectorPad) + round_up(r.hidden, kVectorPad) + (training ? 3 : 1) * s.group_channels;
    shared_bytes = larger(shared_bytes, values * accumulate_size(dtype));
  }
  if (shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  return visit_dtype(dtype, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto kernel =
        training ? spatial_weighting_training_forward_kernel<scalar_t> : spatial_weighting_forward_kernel<scalar_t>;
    return launch(kernel, dim3(static_cast<unsigned>(tiles)), dim3(kThreads), shared_bytes, stream, plan);
  });
}

}  // namespace litehrnet
