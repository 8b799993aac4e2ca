// The first and the last launch of cross_resolution_weighting_batch_norm_backward: from pixels to positions, and back.
#pragma once

#include "core/reduction.cuh"
#include "core/sigmoid.cuh"
#include "cuda/cross_resolution_weighting_batch_norm_backward_plan.cuh"

namespace litehrnet::weighting_backward {

constexpr int kPixelThreads = 256;
constexpr int kPixelWarps = kPixelThreads / kWarpSize;
constexpr int kFlight = 4;  // vectors of a map that a thread of the last launch requests at once
// And of the first; 16-bit types have few vectors in a window, and many registers for their values.
template <class scalar_t>
constexpr int kPieceFlight = sizeof(scalar_t) == 2 ? 2 : 4;

// First launch, one warp: some flat positions of a channel. The gradient of a gate is the sum of grad_y x over the
// pixels that read the position.
template <class scalar_t, int kVec, bool kCoincide>
__device__ void sum_windows(const Plan& p, const Section& s, const Branch& r, int channel, int part) {
  using acc = acc_t<scalar_t>;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, lanes = 1 << s.windows.log_lanes;
  const int first_piece = lane & (lanes - 1), in_all = s.channel_offset + channel;
  const auto norm = normalised_channel(p.params.norm2, in_all, static_cast<acc>(p.params.eps));
  const int end = smaller(p.flat_positions, (part + 1) * s.positions_per_part);
  NormSums<acc> sums = {0, 0};
  for (int first = part * s.positions_per_part; first < end; first += kWarpSize / lanes) {
    const int flat = first + (lane >> s.windows.log_lanes);
    const bool live = flat < end, leads = live && first_piece == 0;
    const FlatPosition at(p, live ? flat : first);
    const std::int64_t offset = at.offset(p, in_all, p.channels);
    const acc logit = leads ? to_acc(static_cast<const scalar_t*>(p.params.logits)[offset]) : 0;
    acc product = 0, sum = 0;
    int area = 1;
    if (live) {
      const scalar_t* x = static_cast<const scalar_t*>(r.x) + at.image * r.x_image_stride + channel * r.x_plane_stride;
      const scalar_t* grad_y =
          static_cast<const scalar_t*>(r.grad_y) + at.image * r.grad_y_image_stride + channel * r.grad_y_plane_stride;
      const int row = p.columns_divisor.divide(at.position), column = at.position - row * p.width;
      const Window pools = pooled_window(s.windows, row, column, r.height, r.width, p.height, p.width);
      area = pools.rows * pools.columns;
      if constexpr (kCoincide) {
        constexpr int kPieces = kPieceFlight<scalar_t>;
        const int per_row = pools.columns / kVec, pieces = pools.rows * per_row;
#pragma unroll 1
        for (int next = first_piece; next < pieces; next += kPieces * lanes) {
          Vec<scalar_t, kVec> values[kPieces] = {}, gradients[kPieces] = {};
#pragma unroll
          for (int u = 0; u < kPieces; ++u) {
            const int piece = next + u * lanes, line = s.windows.pieces_per_row.divide(piece);
            if (piece >= pieces) continue;
            const int pixel = (pools.row + line) * r.width + pools.column + (piece - line * per_row) * kVec;
            values[u] = load_vec<kVec>(x + pixel);
            gradients[u] = load_vec<kVec>(grad_y + pixel);
          }
#pragma unroll
          for (int u = 0; u < kPieces; ++u) {
#pragma unroll
            for (int e = 0; e < kVec; ++e) {
              product += to_acc(gradients[u].v[e]) * to_acc(values[u].v[e]);
              sum += to_acc(values[u].v[e]);
            }
          }
        }
      } else {
        for_each_piece<kVec>(s.windows, pools, first_piece, r.width, [&](int pixel) { sum += to_acc(x[pixel]); });
        const Window reads = reading_window(s.windows, row, column, r.height, r.width, p.height, p.width);
        for_each_piece<kVec>(s.windows, reads, first_piece, r.width,
                             [&](int pixel) { product += to_acc(grad_y[pixel]) * to_acc(x[pixel]); });
      }
    }
    product = lanes_sum(product, lanes);
    sum = lanes_sum(sum, lanes);
    if (leads) {
      const acc gate = sigmoid(norm.apply(logit)), gradient = product * gate * (1 - gate);
      static_cast<acc*>(p.gates)[offset] = gate;
      static_cast<acc*>(p.pooled)[offset] = sum / static_cast<acc>(area);
      static_cast<acc*>(p.grad_logits)[offset] = gradient;
      sums.gradients += gradient;
      sums.products += gradient * (logit - norm.mean);  // all are divided by the deviation at the end
    }
  }
  sums = {lanes_sum<kWarpSize>(sums.gradients), lanes_sum<kWarpSize>(sums.products) * norm.inverse_deviation};
  if (lane == 0) static_cast<NormSums<acc>*>(s.norm2_parts)[part * r.channels + channel] = sums;
}

template <class scalar_t>
__device__ __forceinline__ void position_gradients(const Plan& p, int warp) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && warp >= p.section[b].first_warp;
  const Section& s = p.section[branch];
  const Branch& r = p.params.branch[branch];
  const int in_branch = warp - s.first_warp, channel = s.norm2_parts_divisor.divide(in_branch);
  const int part = in_branch - channel * s.norm2_part_count;
  if (!s.windows.coincide) return sum_windows<scalar_t, 1, false>(p, s, r, channel, part);
  visit_vec<scalar_t>(s.windows.vec, [&](auto vec) {
    sum_windows<scalar_t, decltype(vec)::value, true>(p, s, r, channel, part);
  });
}

// Which windows the pixels of a vector are in.
enum class Reach { kOne, kSeveral, kOverlapping };  // one; several of windows that coincide; windows that do not

// A vector of pixels of a plane, and where the plane's maps of positions begin.
struct Piece {
  bool live;
  int pixel;  // in the plane
  std::int64_t grad_y, grad_x, maps;  // offsets
};

__device__ __forceinline__ Piece piece_of(const Plan& p, const Section& s, const Branch& r, int group, int tile,
                                          int i) {
  const int in_group = s.pieces_divisor.divide(i), plane = group * s.planes_per_block + in_group;
  const int piece = tile * s.pieces_per_tile + i - in_group * s.pieces_per_tile;
  const int image = plane / r.channels, channel = plane - image * r.channels;
  return {in_group < s.planes_per_block && plane < p.params.batch * r.channels && piece < s.pieces_per_plane,
          piece * s.vec,
          image * r.grad_y_image_stride + channel * r.grad_y_plane_stride + piece * s.vec,
          image * r.grad_x_image_stride + channel * r.grad_x_plane_stride + piece * s.vec,
          (static_cast<std::int64_t>(image) * p.channels + s.channel_offset + channel) * p.positions};
}

// grad_x = grad_y * gate + pooled
template <class acc>
struct PixelTerms {
  acc gate, pooled;
};

template <class acc, Reach kReach>
__device__ __forceinline__ PixelTerms<acc> pixel_terms(const Plan& p, const Section& s, const Branch& r,
                                                       std::int64_t maps, int pixel) {
  const acc* const gates = static_cast<const acc*>(p.gates) + maps;
  const acc* const grad_pooled = static_cast<const acc*>(p.grad_pooled) + maps;
  const int row = s.width_divisor.divide(pixel), column = pixel - row * r.width;
  if constexpr (kReach != Reach::kOverlapping) {
    const int position = s.ratio_y_divisor.divide(row) * p.width + s.ratio_x_divisor.divide(column);
    return {gates[position], grad_pooled[position]};
  } else {
    // The positions whose windows contain a pixel: those that pooling from positions to pixels would average.
    const Span rows = pooled_span(row, r.height, p.height), columns = pooled_span(column, r.width, p.width);
    acc sum = 0;
    for (int i = rows.begin; i < rows.end; ++i)
      for (int j = columns.begin; j < columns.end; ++j) sum += grad_pooled[i * p.width + j];
    const int reads = nearest_position(row, p.height, r.height) * p.width + nearest_position(column, p.width, r.width);
    return {gates[reads], sum};
  }
}

// Last launch, one block: grad_x for a tile of a plane, or for several planes. It may lie where grad_y does: what a
// thread replaces, nobody else reads.
template <class scalar_t, int kVec, Reach kReach>
__device__ void pixel_gradients(const Plan& p, const Section& s, const Branch& r, int block) {
  using acc = acc_t<scalar_t>;
  constexpr int kAtOnce = kReach == Reach::kOne ? kFlight : 1;
  const int group = block / s.tiles_per_plane, tile = block - group * s.tiles_per_plane;
  const auto* const grad_y = static_cast<const scalar_t*>(r.grad_y);
  auto* const grad_x = static_cast<scalar_t*>(r.grad_x);
  const int pieces = s.planes_per_block * s.pieces_per_tile;
  for (int first = static_cast<int>(threadIdx.x); first < pieces; first += kAtOnce * kPixelThreads) {
    Vec<scalar_t, kVec> gradients[kAtOnce] = {};
    PixelTerms<acc> terms[kAtOnce] = {};
    Piece piece[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      piece[u] = piece_of(p, s, r, group, tile, first + u * kPixelThreads);
      if (!piece[u].live) continue;
      gradients[u] = load_vec<kVec>(grad_y + piece[u].grad_y);
      if constexpr (kReach != Reach::kSeveral)
        terms[u] = pixel_terms<acc, kReach>(p, s, r, piece[u].maps, piece[u].pixel);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (!piece[u].live) continue;
#pragma unroll
      for (int e = 0; e < kVec; ++e) {
        if constexpr (kReach == Reach::kSeveral)
          terms[u] = pixel_terms<acc, kReach>(p, s, r, piece[u].maps, piece[u].pixel + e);
        gradients[u].v[e] = from_acc<scalar_t>(to_acc(gradients[u].v[e]) * terms[u].gate + terms[u].pooled);
      }
      store_vec(grad_x + piece[u].grad_x, gradients[u]);
    }
  }
}

template <class scalar_t>
__device__ __forceinline__ void gradients_of_x(const Plan& p, int block) {
  int branch = 0;
#pragma unroll
  for (int b = 1; b < kMaxBranches; ++b) branch += b < p.params.branches && block >= p.section[b].first_block;
  const Section& s = p.section[branch];
  const Branch& r = p.params.branch[branch];
  const int in_branch = block - s.first_block;
  if (!s.windows.coincide) return pixel_gradients<scalar_t, 1, Reach::kOverlapping>(p, s, r, in_branch);
  visit_vec<scalar_t>(s.vec, [&](auto vec) {
    constexpr int kVec = decltype(vec)::value;
    if (s.one_position) return pixel_gradients<scalar_t, kVec, Reach::kOne>(p, s, r, in_branch);
    if constexpr (kVec > 1) pixel_gradients<scalar_t, kVec, Reach::kSeveral>(p, s, r, in_branch);
  });
}

}  // namespace litehrnet::weighting_backward
