// cross_resolution_weighting_batch_norm on the CPU; params/cross_resolution_weighting_batch_norm.h has the maths.
//
// Passes   1  an image: pools all branches, hidden, and its moments         reads x
//          2  an image: logits, and their moments
//          3  a plane: y, where it is wanted                                reads x, writes y
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = CrossResolutionWeightingBatchNormParams;
using Branch = CrossResolutionWeightingBatchNormBranch;

template <class P>
int total_channels(const P& params) {
  int total = 0;
  for (int b = 0; b < params.branches; ++b) total += params.branch[b].channels;
  return total;
}
template <class P>
int positions_of(const P& params) {
  return params.branch[params.branches - 1].height * params.branch[params.branches - 1].width;
}
template <class P>
int widest(const P& params) {
  int width = 0;
  for (int b = 0; b < params.branches; ++b) width = most(width, params.branch[b].width);
  return width;
}

template <class A>
struct Shared {
  Moments<A>*hidden, *logits;
  Shared(Cutter& cutter, const Params& p)
      : hidden(cutter.cut<Moments<A>>(static_cast<std::int64_t>(p.batch) * p.hidden_channels)),
        logits(cutter.cut<Moments<A>>(static_cast<std::int64_t>(p.batch) * total_channels(p))) {}
};

template <class A>
struct Own {
  typename Resolutions<A>::Room room;
  A *pooled, *activations, *gates, *row;
  Own(Cutter& cutter, const Params& p)
      : room(cutter, widest(p), p.branch[p.branches - 1].width),
        pooled(cutter.cut<A>(static_cast<std::int64_t>(total_channels(p)) * positions_of(p))),
        activations(cutter.cut<A>(static_cast<std::int64_t>(p.hidden_channels) * positions_of(p))),
        gates(cutter.cut<A>(positions_of(p))),
        row(cutter.cut<A>(widest(p))) {}
};

template <class T>
void run(const Params& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<A>, Own<A>, Params> place(p, team);
  const Shared<A>& shared = place.shared;
  const Branch& last = p.branch[p.branches - 1];
  const int channels = total_channels(p), rows = p.hidden_channels, positions = positions_of(p);
  const auto plane = [&](const Branch& branch, int image, int channel) {
    return static_cast<const T*>(branch.x) + image * branch.x_image_stride + channel * branch.x_plane_stride;
  };

  place.for_each(p.batch, [&](int image, const Own<A>& own) {
    A* to = own.pooled;
    for (int b = 0; b < p.branches; ++b) {
      const Branch& branch = p.branch[b];
      const Resolutions<A> resolutions(own.room, branch.height, branch.width, last.height, last.width);
      for (int c = 0; c < branch.channels; ++c, to += positions) {
        const T* x = plane(branch, image, c);
        resolutions.pool([&](int y, int column, int count) { return load(x + y * branch.width + column, count); }, to);
      }
    }
    A* hidden = static_cast<A*>(p.hidden) + static_cast<std::int64_t>(image) * rows * positions;
    matrix_product(StridedMatrix<A>{static_cast<const A*>(p.w1), channels, rows, channels, 1},
                   static_cast<const A*>(nullptr), RegularColumns<A>{own.pooled, positions}, 0, positions,
                   StoreRegular<false, A>{hidden, positions});
    if (!p.batch_statistics) return;
    for (int r = 0; r < rows; ++r)
      shared.hidden[image * rows + r] = plane_moments(hidden + static_cast<std::int64_t>(r) * positions, positions);
  });
  if (p.batch_statistics) merge_moments(p.norm1, rows, shared.hidden, rows, p.batch, positions);

  place.for_each(p.batch, [&](int image, const Own<A>& own) {
    const A* hidden = static_cast<const A*>(p.hidden) + static_cast<std::int64_t>(image) * rows * positions;
    for (int r = 0; r < rows; ++r) {
      const Normalisation<A> norm = normalisation<A>(p.norm1, r, p.eps);
      const Vector<A> scale = broadcast(norm.scale()), shift = broadcast(norm.shift());
      const std::int64_t at = static_cast<std::int64_t>(r) * positions;
      for_vectors<A>(positions, [&](int i, int count) {
        store(own.activations + at + i, relu(fma(load(hidden + at + i, count), scale, shift)), count);
      });
    }
    T* logits = static_cast<T*>(p.logits) + static_cast<std::int64_t>(image) * channels * positions;
    matrix_product(StridedMatrix<A>{static_cast<const A*>(p.w2), rows, channels, rows, 1},
                   static_cast<const A*>(nullptr), RegularColumns<A>{own.activations, positions}, 0, positions,
                   StoreRegular<false, T>{logits, positions});
    if (!p.batch_statistics) return;
    for (int c = 0; c < channels; ++c)
      shared.logits[image * channels + c] = plane_moments(logits + static_cast<std::int64_t>(c) * positions, positions);
  });
  if (p.batch_statistics) merge_moments(p.norm2, channels, shared.logits, channels, p.batch, positions);
  if (p.branch[0].y == nullptr) return;

  const Slices slices(p.batch, team.threads);
  place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
    const int image = slices.image(task);
    int gate_channel = 0;
    for (int b = 0; b < p.branches; gate_channel += p.branch[b].channels, ++b) {
      const Branch& branch = p.branch[b];
      const Resolutions<A> resolutions(own.room, branch.height, branch.width, last.height, last.width);
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const std::int64_t number = static_cast<std::int64_t>(image) * channels + gate_channel + c;
        position_gates(static_cast<const T*>(p.logits) + number * positions,
                       normalisation<A>(p.norm2, gate_channel + c, p.eps), positions, own.gates);
        const std::int64_t pixels = static_cast<std::int64_t>(branch.height) * branch.width;
        const T* x = plane(branch, image, c);
        T* y = static_cast<T*>(branch.y) + (static_cast<std::int64_t>(image) * branch.channels + c) * pixels;
        int at = -1;
        for (int row = 0; row < branch.height; ++row, x += branch.width, y += branch.width) {
          const int nearest = resolutions.nearest_row(row);
          if (nearest != at) resolutions.upsample(own.gates + nearest * last.width, own.row), at = nearest;
          for_vectors<A>(branch.width,
                         [&](int i, int count) { store(y + i, load(x + i, count) * load(own.row + i), count); });
        }
      }
    }
  });
}

}  // namespace

std::size_t cross_resolution_weighting_batch_norm_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Own<A>>(params, threads);
  });
}

void cross_resolution_weighting_batch_norm(const Params& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
