// spatial_weighting on the CPU; params/spatial_weighting.h has the maths.
//
// Passes   1  an image: the gates                                   reads plane sums, or x
//          2  a plane: out                                          reads x and kept, writes out
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = SpatialWeightingParams;
using Branch = SpatialWeightingBranch;

template <class A>
struct Shared {
  A* gates[kMaxBranches];
  Shared(Cutter& cutter, const Params& p) {
    for (int b = 0; b < p.branches; ++b)
      gates[b] = cutter.cut<A>(static_cast<std::int64_t>(p.batch) * p.branch[b].channels);
  }
};

template <class A>
struct Own {
  A *means, *hidden, *numbers;
  Own(Cutter& cutter, const Params& p) {
    int channels = 0, rows = 0;
    for (int b = 0; b < p.branches; ++b)
      channels = most(channels, p.branch[b].channels), rows = most(rows, p.branch[b].hidden);
    means = cutter.cut<A>(channels + kLanes<A>);
    hidden = cutter.cut<A>(rows);
    numbers = cutter.cut<A>(most(channels, rows));
  }
};

// Elements of type T, or of the type that they are summed in.
template <class T>
LITEHRNET_INLINE const acc_t<T>* numbers_at(const void* from, bool accumulated, std::int64_t first, int count,
                                            acc_t<T>* room) {
  if (accumulated) return static_cast<const acc_t<T>*>(from) + first;
  return as_numbers(static_cast<const T*>(from) + first, count, room);
}

template <class T>
void run(const Params& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<A>, Own<A>, Params> place(p, team);
  const Shared<A>& shared = place.shared;
  const auto plane = [&](const Branch& branch, int image, int channel) {
    return static_cast<const T*>(branch.x) + image * branch.x_image_stride + channel * branch.x_plane_stride;
  };

  place.for_each(p.batch * p.branches, [&](int task, const Own<A>& own) {
    const int image = task / p.branches, b = task % p.branches;
    const Branch& branch = p.branch[b];
    const int pixels = branch.height * branch.width, channels = branch.channels, rows = branch.hidden;
    for (int c = 0; c < channels; ++c) {
      A sum = 0;
      if (branch.partial_sums != nullptr) {
        const A* parts = static_cast<const A*>(branch.partial_sums) +
                         (static_cast<std::int64_t>(image) * channels + c) * branch.tiles;
        for (int t = 0; t < branch.tiles; ++t) sum += parts[t];
      } else {
        const T* x = plane(branch, image, c);
        sum = sum_of<A>(pixels, [&](int i, int count) { return load(x + i, count); });
      }
      const Normalisation<A> norm = normalisation<A>(branch.norm, c, p.eps);
      own.means[c] = sum / static_cast<A>(pixels) * norm.scale() + norm.shift();
    }
    const auto numbers = [&](const void* from, std::int64_t first, int count) {
      return numbers_at<T>(from, p.accumulate_weights, first, count, own.numbers);
    };
    for (int r = 0; r < rows; ++r) {
      const A v = dot(numbers(branch.w1, static_cast<std::int64_t>(r) * channels, channels), own.means, channels) +
                  *numbers(branch.b1, r, 1);
      own.hidden[r] = v < 0 ? 0 : v;
    }
    A* gates = shared.gates[b] + static_cast<std::int64_t>(image) * channels;
    for (int c = 0; c < channels; ++c)
      own.means[c] =
          dot(numbers(branch.w2, static_cast<std::int64_t>(c) * rows, rows), own.hidden, rows) + *numbers(branch.b2, c, 1);
    for_vectors<A>(channels, [&](int i, int count) { store(gates + i, sigmoid(load(own.means + i, count)), count); });
  });

  const Slices slices(p.batch, team.threads);
  place.for_each(slices.tasks(), [&](int task, const Own<A>&) {
    const int image = slices.image(task);
    for (int b = 0; b < p.branches; ++b) {
      const Branch& branch = p.branch[b];
      const int pixels = branch.height * branch.width, copies = branch.kept == nullptr ? 1 : 2;
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const std::int64_t number = static_cast<std::int64_t>(image) * branch.channels + c;
        T* to = static_cast<T*>(branch.out) + copies * number * pixels;
        if (branch.kept != nullptr) {
          const T* kept =
              static_cast<const T*>(branch.kept) + image * branch.kept_image_stride + c * branch.kept_plane_stride;
          __builtin_memcpy(to, kept, static_cast<std::size_t>(pixels) * sizeof(T));
          to += pixels;
        }
        const Normalisation<A> norm = normalisation<A>(branch.norm, c, p.eps);
        const A gate = shared.gates[b][number];
        const Vector<A> scale = broadcast(norm.scale() * gate), shift = broadcast(norm.shift() * gate);
        const T* x = plane(branch, image, c);
        for_vectors<A>(pixels, [&](int i, int count) { store(to + i, fma(load(x + i, count), scale, shift), count); });
      }
    }
  });
}

}  // namespace

std::size_t spatial_weighting_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Own<A>>(params, threads);
  });
}

void spatial_weighting(const Params& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
