// cross_resolution_weighting_batch_norm_backward: the gradients of
//
//   hidden = W1 pool(x)   logits = W2 relu(norm1(hidden))   g = sigmoid(norm2(logits))   y_i = x_i * upsample(g)_i
//
//   dg = sum of grad_y x over the pixels that read the position     dn2 = dg g (1 - g)
//   dlogits = norm2'(dn2)     dn1 = (W2^T dlogits where norm1(hidden) > 0)     dhidden = norm1'(dn1)
//   dpooled = W1^T dhidden    grad_x_i = grad_y_i * upsample(g)_i + pool_i'(dpooled)
//   grad W1 = sum of dhidden pooled^T     grad W2 = sum of dlogits relu(norm1(hidden))^T
//
// where norm'(dn) = weight / deviation (dn - mean(dn) - n mean(dn n)) for normalised values n, means over the batch;
// grad weight = sum of dn n, grad bias = sum of dn. Statistics that did not depend on x ("frozen") have no means.
//
// Layout   x, grad_y, grad_x [N, c_i, H_i, W_i], planes contiguous, any image and plane stride; logits [N, C, h, w];
//          hidden [N, R, h, w], W1 [R, C], W2 [C, R] and the workspace in float (double for fp64). "Flat positions" are
//          those of all images, M = N h w.
// Mapping  four launches, as a sum over the whole batch is a barrier:
//          1  ..._windows.cuh    warp = some flat positions of a channel, of which it sums the windows: up to
//                                kMaxParts warps a channel. A window has a power of two of lanes, fewer in larger
//                                batches, so that a lane has several vectors in flight.
//          2  ..._positions.cuh  block = tiles of eight flat positions, in turns: dlogits, dn1.
//          3  ..._positions.cuh  the same for dpooled; other blocks sum a tile of a matrix's gradient over a part of
//                                the positions.
//          4  ..._windows.cuh    thread = vectors of pixels of a plane, anywhere in it; other blocks sum the matrices'
//                                parts, and those of somebody else (`aside`).
// Traffic  x is read once, grad_y twice, grad_x written once; where windows overlap the first launch reads x twice, the
//          second time from caches. Five maps of positions [N, C, h, w] go through the workspace, and parts of sums.
// Sums     in the order of parts, positions and lanes: bitwise reproducible, no atomics.
// Limits   M, R C, the pixels of a plane and the blocks of a launch below 2^30; aside leaves two reductions free.
#include "core/workspace.h"
#include "cuda/cross_resolution_weighting_batch_norm_backward_positions.cuh"
#include "cuda/cross_resolution_weighting_batch_norm_backward_windows.cuh"

namespace litehrnet {
namespace {

using weighting_backward::Branch;
using weighting_backward::NormSums;
using weighting_backward::Params;
using weighting_backward::Plan;
using weighting_backward::Section;

constexpr int kMaxTileBlocks = 128;  // about the number of multiprocessors; each leaves a part of norm1's sums
constexpr int kMaxSplits = 32;       // parts of the matrices' gradients
constexpr std::size_t kSums = sizeof(NormSums<double>) / sizeof(double);
// Blocks of a multiprocessor that registers are to leave room for; fp64 would spill.
template <class scalar_t>
constexpr int kWindowBlocks = sizeof(scalar_t) == 8 ? 1 : 3;
template <class scalar_t>
constexpr int kTileBlocks = sizeof(scalar_t) == 8 ? 1 : 2;
template <class scalar_t>
constexpr int kPixelBlocks = sizeof(scalar_t) == 4 ? 3 : 2;
constexpr int kBlockPieces = weighting_backward::kPixelThreads * weighting_backward::kFlight;

template <class scalar_t>
__global__ void __launch_bounds__(weighting_backward::kPixelThreads, kWindowBlocks<scalar_t>)
    weighting_backward_windows_kernel(const __grid_constant__ Plan plan) {
  const int warp = static_cast<int>(blockIdx.x) * weighting_backward::kPixelWarps +
                   static_cast<int>(threadIdx.x) / kWarpSize;
  if (warp < plan.warps) weighting_backward::position_gradients<scalar_t>(plan, warp);
}

template <class scalar_t>
__global__ void __launch_bounds__(weighting_backward::kTileThreads, kTileBlocks<scalar_t>)
    weighting_backward_logits_kernel(const __grid_constant__ Plan plan) {
  weighting_backward::hidden_gradients<scalar_t>(plan, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

template <class scalar_t>
__global__ void __launch_bounds__(weighting_backward::kTileThreads, kTileBlocks<scalar_t>)
    weighting_backward_hidden_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x);
  if (block < plan.tile_blocks) {
    weighting_backward::pooled_gradients<scalar_t>(plan, block, dynamic_shared<unsigned char>());
  } else {
    weighting_backward::matrix_gradients<scalar_t>(plan, block - plan.tile_blocks, dynamic_shared<unsigned char>());
  }
}

template <class scalar_t>
__global__ void __launch_bounds__(weighting_backward::kPixelThreads, kPixelBlocks<scalar_t>)
    weighting_backward_pixels_kernel(const __grid_constant__ Plan plan) {
  const int block = static_cast<int>(blockIdx.x);
  if (block < plan.pixel_blocks) {
    weighting_backward::gradients_of_x<scalar_t>(plan, block);
  } else {
    reduce_parts<acc_t<scalar_t>>(plan.reductions, block - plan.pixel_blocks);
  }
}

bool has_valid_sizes(const Params& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 1 || params.hidden_channels < 1)
    return false;
  constexpr std::int64_t kMost = kMaxGrid / 2;
  std::int64_t channels = 0, blocks = 0;  // of the last launch, at most
  for (int b = 0; b < params.branches; ++b) {
    const Branch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1) return false;
    const std::int64_t pixels = static_cast<std::int64_t>(r.height) * r.width;
    if (pixels > kMost) return false;
    channels += r.channels;
    blocks += ceil_div<std::int64_t>(pixels, kBlockPieces) * r.channels * params.batch;
  }
  const Branch& last = params.branch[params.branches - 1];
  const std::int64_t positions = static_cast<std::int64_t>(last.height) * last.width;
  return positions * params.batch <= kMost && blocks <= kMost && channels * params.hidden_channels <= kMost &&
         params.aside.count + 2 <= kMaxReductions;
}

// The vectors of pixels that the last launch reads and writes: within one window where that leaves 8 bytes, else as
// wide as planes allow; one pixel where windows do not coincide.
void cut_pixels(Section& s, const Branch& r, int batch, DType dtype) {
  const int size = static_cast<int>(element_size(dtype)), plane = r.height * r.width;
  const auto fits = [&](int vec) {
    return plane % vec == 0 && is_aligned(r.grad_y, size, r.grad_y_image_stride, r.grad_y_plane_stride, vec * size) &&
           is_aligned(r.grad_x, size, r.grad_x_image_stride, r.grad_x_plane_stride, vec * size);
  };
  s.vec = s.windows.coincide ? kVecBytes / size : 1;
  while (s.vec > 1 && !fits(s.vec)) s.vec /= 2;
  int within = s.vec;
  while (within > 1 && (!s.windows.coincide || s.windows.ratio_x % within != 0)) within /= 2;
  s.one_position = within * size >= 8 || within == s.vec;
  if (s.one_position) s.vec = within;
  s.pieces_per_plane = plane / s.vec;
  s.tiles_per_plane = ceil_div(s.pieces_per_plane, kBlockPieces);
  s.pieces_per_tile = ceil_div(s.pieces_per_plane, s.tiles_per_plane);
  s.planes_per_block = smaller(larger(kBlockPieces / s.pieces_per_tile, 1), batch * r.channels);
  s.pieces_divisor = FastDivisor::of(s.pieces_per_tile);
  s.width_divisor = FastDivisor::of(r.width);
  s.ratio_y_divisor = FastDivisor::of(larger(s.windows.ratio_y, 1));
  s.ratio_x_divisor = FastDivisor::of(larger(s.windows.ratio_x, 1));
}

// Which flat positions the warps of the first launch have. Where a warp would take several turns, windows get fewer
// lanes, down to a quarter, so that a lane requests four vectors in place of one.
void cut_positions(Section& s, int flat_positions) {
  const int per_part = ceil_div(flat_positions, kMaxParts);
  for (int i = 0; i < 2 && s.windows.log_lanes > 0 && per_part >= 2 * (kWarpSize >> s.windows.log_lanes); ++i)
    --s.windows.log_lanes;
  s.positions_per_part = round_up(per_part, kWarpSize >> s.windows.log_lanes);
  s.norm2_part_count = ceil_div(flat_positions, s.positions_per_part);
  s.norm2_parts_divisor = FastDivisor::of(s.norm2_part_count);
}

// Without pointers, only what the workspace needs is right.
Plan make_plan(const Params& params, DType dtype, std::size_t* workspace_bytes) {
  const Branch& last = params.branch[params.branches - 1];
  const std::size_t size = accumulate_size(dtype);
  Plan plan{};
  plan.params = params;
  plan.height = last.height;
  plan.width = last.width;
  plan.positions = last.height * last.width;
  plan.flat_positions = params.batch * plan.positions;
  plan.positions_divisor = FastDivisor::of(plan.positions);
  plan.columns_divisor = FastDivisor::of(plan.width);
  plan.tiles = ceil_div(plan.flat_positions, weighting_backward::kTilePositions);
  plan.tile_blocks = smaller(plan.tiles, kMaxTileBlocks);
  plan.split_positions = round_up(ceil_div(plan.flat_positions, kMaxSplits), weighting_backward::kMatrixDepth);
  plan.splits = ceil_div(plan.flat_positions, plan.split_positions);

  Workspace workspace(params.workspace);
  for (int b = 0; b < params.branches; ++b) {
    const Branch& r = params.branch[b];
    Section& s = plan.section[b];
    s.windows = make_windows(r.height, r.width, plan.height, plan.width, dtype, [&](int vec) {
      const int element = static_cast<int>(element_size(dtype)), bytes = vec * element;
      return is_aligned(r.x, element, r.x_image_stride, r.x_plane_stride, bytes) &&
             is_aligned(r.grad_y, element, r.grad_y_image_stride, r.grad_y_plane_stride, bytes);
    });
    s.channel_offset = plan.channels;
    plan.channels += r.channels;
    cut_positions(s, plan.flat_positions);
    s.first_warp = plan.warps;
    plan.warps += r.channels * s.norm2_part_count;
    cut_pixels(s, r, params.batch, dtype);
    s.first_block = plan.pixel_blocks;
    plan.pixel_blocks += ceil_div(params.batch * r.channels, s.planes_per_block) * s.tiles_per_plane;
    s.norm2_parts = workspace.reserve(kSums * size * r.channels * kMaxParts);
  }
  plan.row_tiles = ceil_div(params.hidden_channels, weighting_backward::kMatrixRows);
  plan.column_tiles = ceil_div(plan.channels, weighting_backward::kMatrixColumns);

  const std::size_t map = size * plan.flat_positions, matrix = size * plan.channels * params.hidden_channels;
  plan.gates = workspace.reserve(map * plan.channels);
  plan.pooled = workspace.reserve(map * plan.channels);
  plan.grad_pooled = workspace.reserve(map * plan.channels);
  plan.grad_logits = workspace.reserve(map * plan.channels);
  plan.grad_normalised1 = workspace.reserve(map * params.hidden_channels);
  plan.norm1_parts = workspace.reserve(kSums * size * params.hidden_channels * plan.tile_blocks);
  plan.w1_parts = workspace.reserve(matrix * plan.splits);
  plan.w2_parts = workspace.reserve(matrix * plan.splits);
  if (workspace_bytes != nullptr) *workspace_bytes = workspace.bytes();

  const int count = plan.channels * params.hidden_channels;
  plan.reductions = params.aside;
  plan.reductions.item[plan.reductions.count++] = {plan.w1_parts, params.grad_w1, count, plan.splits};
  plan.reductions.item[plan.reductions.count++] = {plan.w2_parts, params.grad_w2, count, plan.splits};
  return plan;
}

}  // namespace

std::size_t cross_resolution_weighting_batch_norm_backward_workspace_bytes(const Params& params, DType dtype) {
  std::size_t bytes = 0;
  if (has_valid_sizes(params)) make_plan(params, dtype, &bytes);
  return bytes;
}

cudaError_t launch_cross_resolution_weighting_batch_norm_backward(const Params& params, DType dtype,
                                                                  cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  const Plan plan = make_plan(params, dtype, nullptr);
  const auto blocks = [](int count) { return dim3(static_cast<unsigned>(count)); };
  return visit_dtype(dtype, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc = acc_t<scalar_t>;
    constexpr std::size_t kTileBytes = weighting_backward::kTileBytes<acc>;
    constexpr std::size_t kMatrixBytes = weighting_backward::kMatrixBytes<acc>;
    static_assert(larger(kTileBytes, kMatrixBytes) <= kMaxSharedBytes, "no opting in");
    const dim3 pixel_threads(weighting_backward::kPixelThreads), tile_threads(weighting_backward::kTileThreads);
    const int matrix_blocks = 2 * plan.splits * plan.row_tiles * plan.column_tiles;
    cudaError_t error = launch(weighting_backward_windows_kernel<scalar_t>,
                               blocks(ceil_div(plan.warps, weighting_backward::kPixelWarps)), pixel_threads, 0, stream,
                               plan);
    if (error == cudaSuccess)
      error = launch(weighting_backward_logits_kernel<scalar_t>, blocks(plan.tile_blocks), tile_threads, kTileBytes,
                     stream, plan);
    if (error == cudaSuccess)
      error = launch(weighting_backward_hidden_kernel<scalar_t>, blocks(plan.tile_blocks + matrix_blocks), tile_threads,
                     larger(kTileBytes, kMatrixBytes), stream, plan);
    if (error == cudaSuccess)
      error = launch(weighting_backward_pixels_kernel<scalar_t>,
                     blocks(plan.pixel_blocks + reduction_blocks(plan.reductions)), pixel_threads, 0, stream, plan);
    return error;
  });
}

}  // namespace litehrnet
