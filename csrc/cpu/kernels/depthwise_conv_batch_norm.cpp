// depthwise_conv_batch_norm on the CPU; params/depthwise_conv_batch_norm.h has the maths.
//
// Passes   1  a plane: filtered and its moments                     reads x and the gates' logits, writes filtered
//          2  a plane: y, where it is wanted                        reads filtered, writes y
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = DepthwiseConvBatchNormParams;
using Branch = DepthwiseConvBatchNormBranch;

template <class A>
struct Shared {
  Moments<A>* moments[kMaxBranches];
  Shared(Cutter& cutter, const Params& p) {
    for (int b = 0; b < p.branches; ++b)
      moments[b] = cutter.cut<Moments<A>>(static_cast<std::int64_t>(p.batch) * p.branch[b].channels);
  }
};

template <class A>
struct Own {
  A *map, *filtered, *gates, *row;
  typename Resolutions<A>::Room room;
  Own(Cutter& cutter, const Params& p) : room(cutter, widest(p), most(p.gates.width, 1)) {
    int elements = 0, pixels = 0;
    for (int b = 0; b < p.branches; ++b) {
      elements = most(elements, MapShape<A>{p.branch[b].width, p.branch[b].height, 1}.elements());
      pixels = most(pixels, p.branch[b].width * p.branch[b].height);
    }
    map = cutter.cut<A>(elements);
    filtered = cutter.cut<A>(pixels + kLanes<A>);
    gates = cutter.cut<A>(p.gates.height * p.gates.width + kLanes<A>);
    row = cutter.cut<A>(widest(p));
  }
  static int widest(const Params& p) {
    int width = 0;
    for (int b = 0; b < p.branches; ++b) width = most(width, p.branch[b].width);
    return width;
  }
};

template <class T>
void run(const Params& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<A>, Own<A>, Params> place(p, team);
  const Shared<A>& shared = place.shared;
  const bool gated = p.gates.logits != nullptr;
  const int high = gated ? p.gates.height : 1, wide = gated ? p.gates.width : 1, positions = high * wide;
  const Slices slices(p.batch, team.threads);

  place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
    const int image = slices.image(task);
    for (int b = 0; b < p.branches; ++b) {
      const Branch& branch = p.branch[b];
      const int pixels = branch.height * branch.width;
      const Resolutions<A> resolutions(own.room, branch.height, branch.width, high, wide);
      const MapShape<A> shape{branch.width, branch.height, 1};
      clear(own.map, shape.elements());
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const T* x = static_cast<const T*>(branch.x) + image * branch.x_image_stride + c * branch.x_plane_stride;
        if (gated) {
          const int number = branch.gate_channel + c;
          const std::int64_t at = static_cast<std::int64_t>(image) * p.gates.channels + number;
          position_gates(static_cast<const T*>(p.gates.logits) + at * positions,
                         normalisation<A>(p.gates.norm, number, p.gates.eps), positions, own.gates);
        }
        fill_with_gated(own.map, shape, x, gated ? own.gates : nullptr, resolutions, wide, own.row);
        FilterWeights<A> weights;
        for (int i = 0; i < 9; ++i) weights.tap[i] = static_cast<const A*>(branch.weight)[c * 9 + i];
        weights.bias = 0;
        filter_map(own.map, shape, weights, own.filtered);
        const std::int64_t number = static_cast<std::int64_t>(image) * branch.channels + c;
        T* to = static_cast<T*>(branch.filtered) + number * pixels;
        for_vectors<A>(pixels, [&](int i, int count) { store(to + i, load(own.filtered + i, count), count); });
        if (!p.batch_statistics && branch.plane_sums == nullptr) continue;
        const Moments<A> moments = plane_moments(to, pixels);
        shared.moments[b][number] = moments;
        if (branch.plane_sums != nullptr)
          static_cast<A*>(branch.plane_sums)[number] = moments.mean * static_cast<A>(pixels);
      }
    }
  });
  if (p.batch_statistics)
    for (int b = 0; b < p.branches; ++b)
      merge_moments(p.branch[b].norm, p.branch[b].channels, shared.moments[b], p.branch[b].channels, p.batch,
                    p.branch[b].height * p.branch[b].width);
  if (p.branch[0].y == nullptr) return;

  place.for_each(slices.tasks(), [&](int task, const Own<A>&) {
    for (int b = 0; b < p.branches; ++b) {
      const Branch& branch = p.branch[b];
      const int pixels = branch.height * branch.width;
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const std::int64_t at = (static_cast<std::int64_t>(slices.image(task)) * branch.channels + c) * pixels;
        const Normalisation<A> norm = normalisation<A>(branch.norm, c, p.eps);
        const Vector<A> scale = broadcast(norm.scale()), shift = broadcast(norm.shift());
        const T* from = static_cast<const T*>(branch.filtered) + at;
        T* to = static_cast<T*>(branch.y) + at;
        for_vectors<A>(pixels,
                       [&](int i, int count) { store(to + i, fma(load(from + i, count), scale, shift), count); });
      }
    }
  });
}

}  // namespace

std::size_t depthwise_conv_batch_norm_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Own<A>>(params, threads);
  });
}

void depthwise_conv_batch_norm(const Params& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
