// depthwise_conv_batch_norm_backward on the CPU; params/depthwise_conv_batch_norm_backward.h has the maths.
//
// Passes   1  a plane: grad_x, gradients of taps; sums over windows of positions where they are wanted
//                                                       reads grad_y, filtered, x, logits; writes grad_x
//          2  a channel: grad_weight
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = DepthwiseConvBatchNormBackwardParams;
using Branch = DepthwiseConvBatchNormBackwardBranch;

template <class A>
struct Shared {
  A* taps[kMaxBranches];  // [N][c][9]
  Shared(Cutter& cutter, const Params& p) {
    for (int b = 0; b < p.branches; ++b)
      taps[b] = cutter.cut<A>(static_cast<std::int64_t>(p.batch) * p.branch[b].channels * 9);
  }
};

template <class A>
struct Own {
  A *gradient_map, *pixel_map, *filtered, *gates, *row;
  typename Resolutions<A>::Room room;
  Own(Cutter& cutter, const Params& p) : room(cutter, widest(p), most(p.gates.width, 1)) {
    int elements = 0, pixels = 0;
    for (int b = 0; b < p.branches; ++b) {
      elements = most(elements, MapShape<A>{p.branch[b].width, p.branch[b].height, 1}.elements());
      pixels = most(pixels, p.branch[b].width * p.branch[b].height);
    }
    gradient_map = cutter.cut<A>(elements);
    pixel_map = cutter.cut<A>(elements);
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
void run(const Params& p, const Team& team, const PositionSums& wanted) {
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
      const int width = branch.width, pixels = branch.height * width;
      const Resolutions<A> resolutions(own.room, branch.height, width, high, wide);
      const MapShape<A> shape{width, branch.height, 1};
      const int pitch = shape.pitch();
      clear(own.gradient_map, shape.elements());
      clear(own.pixel_map, shape.elements());
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const std::int64_t number = static_cast<std::int64_t>(image) * branch.channels + c;
        const std::int64_t position = (static_cast<std::int64_t>(image) * p.gates.channels + branch.gate_channel + c) *
                                      positions;  // the plane's first one
        const T* x = static_cast<const T*>(branch.x) + image * branch.x_image_stride + c * branch.x_plane_stride;
        if (gated)
          position_gates(static_cast<const T*>(p.gates.logits) + position,
                         normalisation<A>(p.gates.norm, branch.gate_channel + c, p.gates.eps), positions, own.gates);
        fill_with_gated(own.pixel_map, shape, x, gated ? own.gates : nullptr, resolutions, wide, own.row);

        const T* grad =
            static_cast<const T*>(branch.grad_y) + image * branch.grad_y_image_stride + c * branch.grad_y_plane_stride;
        const T* filtered = static_cast<const T*>(branch.filtered) + number * pixels;
        const A* k = static_cast<const A*>(branch.coefficients) + number * 4;
        const Vector<A> k0 = broadcast(k[0]), k1 = broadcast(k[1]), k2 = broadcast(k[2]), k3 = broadcast(k[3]);
        for (int y = 0; y < branch.height; ++y) {
          A* to = own.gradient_map + (y + 1) * pitch + kLanes<A>;
          const T *g = grad + y * width, *f = filtered + y * width;
          for_vectors<A>(width, [&](int i, int count) {
            const Vector<A> v = fma(load(f + i, count) - k2, k1, fma(load(g + i, count), k0, k3));
            store(to + i, count == kLanes<A> ? v : keep_first<A>(v, count));
          });
        }
        tap_gradients(own.gradient_map, own.pixel_map, shape, shared.taps[b] + number * 9);

        FilterWeights<A> turned;  // by half a turn
        for (int i = 0; i < 9; ++i) turned.tap[i] = static_cast<const A*>(branch.weight)[c * 9 + 8 - i];
        turned.bias = 0;
        filter_map(own.gradient_map, shape, turned, own.filtered);
        T* to = static_cast<T*>(branch.grad_x) + image * branch.grad_x_image_stride + c * branch.grad_x_plane_stride;
        for_vectors<A>(pixels, [&](int i, int count) { store(to + i, load(own.filtered + i, count), count); });
        if (wanted.grad_gates == nullptr) continue;
        resolutions.sum_readers(
            [&](int y, int i, int count) {
              return load(own.filtered + y * width + i, count) * load(x + y * width + i, count);
            },
            static_cast<A*>(wanted.grad_gates) + position);
        resolutions.pool([&](int y, int i, int count) { return load(x + y * width + i, count); },
                         static_cast<A*>(wanted.pooled) + position);
      }
    }
  });

  place.for_each(p.branches, [&](int b, const Own<A>&) {
    const Branch& branch = p.branch[b];
    const int count = branch.channels * 9;
    sum_parts(shared.taps[b], count, p.batch, 0, count, static_cast<A*>(branch.grad_weight));
  });
}

}  // namespace

std::size_t depthwise_conv_batch_norm_backward_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Own<A>>(params, threads);
  });
}

void depthwise_conv_batch_norm_backward(const Params& params, DType dtype, const Team& team,
                                        const PositionSums& sums) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team, sums); });
}
void depthwise_conv_batch_norm_backward(const Params& params, DType dtype, const Team& team) {
  depthwise_conv_batch_norm_backward(params, dtype, team, PositionSums{nullptr, nullptr});
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
