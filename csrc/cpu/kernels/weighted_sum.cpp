// weighted_sum and its backward pass on the CPU; params/weighted_sum.h has the maths. One pass each, a plane at a time:
// reads all terms, writes sum and y; reads their gradients and y, writes the gradients of all terms.
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class A>
struct Own {
  typename Resolutions<A>::Room rooms[kMaxTerms];
  A *plane, *row, *positions;
  template <class Params>
  Own(Cutter& cutter, const Params& p) {
    int most_positions = 0;
    for (int j = 1; j < p.terms; ++j)
      rooms[j] = typename Resolutions<A>::Room(cutter, p.term[0].width, p.term[j].width);
    for (int j = 0; j < p.terms; ++j) most_positions = most(most_positions, p.term[j].height * p.term[j].width);
    plane = cutter.cut<A>(p.term[0].height * p.term[0].width);
    row = cutter.cut<A>(p.term[0].width);
    positions = cutter.cut<A>(most_positions);
  }
};

LITEHRNET_INLINE bool same_size(const WeightedTerm& a, const WeightedTerm& b) {
  return a.height == b.height && a.width == b.width;
}

template <class T>
void run(const WeightedSumParams& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Nothing, Own<A>, WeightedSumParams> place(p, team);
  const Slices slices(p.batch, team.threads);
  const int height = p.term[0].height, width = p.term[0].width, pixels = height * width;
  place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
    const int image = slices.image(task);
    const int first = slices.first(task, p.channels), end = slices.end(task, p.channels);
    for (int c = first; c < end; ++c) {
      for (int j = 0; j < p.terms; ++j) {
        const WeightedTerm& term = p.term[j];
        const T* x = static_cast<const T*>(term.x) + image * term.x_image_stride + c * term.x_plane_stride;
        const Vector<A> factor = broadcast(static_cast<A>(term.factor));
        if (same_size(term, p.term[0])) {
          for_vectors<A>(pixels, [&](int i, int count) {
            const Vector<A> v = load(x + i, count) * factor;
            store(own.plane + i, j == 0 ? v : load(own.plane + i, count) + v, count);
          });
          continue;
        }
        const Resolutions<A> resolutions(own.rooms[j], height, width, term.height, term.width, c > first);
        for_vectors<A>(term.height * term.width,
                       [&](int i, int count) { store(own.positions + i, load(x + i, count) * factor, count); });
        int at = -1;
        for (int y = 0; y < height; ++y) {
          const int nearest = resolutions.nearest_row(y);
          if (nearest != at) resolutions.upsample(own.positions + nearest * term.width, own.row), at = nearest;
          A* to = own.plane + y * width;
          for_vectors<A>(width,
                         [&](int i, int count) { store(to + i, load(to + i, count) + load(own.row + i), count); });
        }
      }
      const std::int64_t at = (static_cast<std::int64_t>(image) * p.channels + c) * pixels;
      if (p.sum != nullptr) {
        T* to = static_cast<T*>(p.sum) + at;
        for_vectors<A>(pixels, [&](int i, int count) { store(to + i, load(own.plane + i, count), count); });
      }
      if (p.y != nullptr) {
        T* to = static_cast<T*>(p.y) + at;
        for_vectors<A>(pixels, [&](int i, int count) { store(to + i, relu(load(own.plane + i, count)), count); });
      }
    }
  });
}

template <class T>
void run_backward(const WeightedSumBackwardParams& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Nothing, Own<A>, WeightedSumBackwardParams> place(p, team);
  const Slices slices(p.batch, team.threads);
  const int height = p.term[0].height, width = p.term[0].width, pixels = height * width;
  place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
    const int image = slices.image(task);
    const auto plane = [&](const void* base, std::int64_t image_stride, std::int64_t plane_stride, int channel) {
      return base == nullptr ? nullptr : static_cast<const T*>(base) + image * image_stride + channel * plane_stride;
    };
    const int first = slices.first(task, p.channels), end = slices.end(task, p.channels);
    for (int c = first; c < end; ++c) {
      const T* grad_sum = plane(p.grad_sum, p.grad_sum_image_stride, p.grad_sum_plane_stride, c);
      const T* grad_y = plane(p.grad_y, p.grad_y_image_stride, p.grad_y_plane_stride, c);
      const T* y = plane(p.y, p.y_image_stride, p.y_plane_stride, c);
      for_vectors<A>(pixels, [&](int i, int count) {
        Vector<A> g{};
        if (p.grad_sum != nullptr) g = load(grad_sum + i, count);
        if (p.grad_y != nullptr) g += load(y + i, count) <= 0 ? zero<A>() : load(grad_y + i, count);
        store(own.plane + i, g, count);
      });
      for (int j = 0; j < p.terms; ++j) {
        const WeightedTerm& term = p.term[j];
        if (term.grad_x == nullptr) continue;
        const int size = term.height * term.width;
        T* to = static_cast<T*>(term.grad_x) + (static_cast<std::int64_t>(image) * p.channels + c) * size;
        const A* from = own.plane;
        if (!same_size(term, p.term[0])) {
          const Resolutions<A> resolutions(own.rooms[j], height, width, term.height, term.width, c > first);
          resolutions.sum_readers([&](int row, int i, int count) { return load(own.plane + row * width + i, count); },
                                  own.positions);
          from = own.positions;
        }
        const Vector<A> factor = broadcast(static_cast<A>(term.factor));
        for_vectors<A>(size, [&](int i, int count) { store(to + i, load(from + i, count) * factor, count); });
      }
    }
  });
}

template <class Params>
std::size_t bytes(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Nothing, Own<A>>(params, threads);
  });
}

}  // namespace

std::size_t weighted_sum_scratch(const WeightedSumParams& params, DType dtype, int threads) {
  return bytes(params, dtype, threads);
}
void weighted_sum(const WeightedSumParams& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team); });
}

std::size_t weighted_sum_backward_scratch(const WeightedSumBackwardParams& params, DType dtype, int threads) {
  return bytes(params, dtype, threads);
}
void weighted_sum_backward(const WeightedSumBackwardParams& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run_backward<decltype(element)>(params, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
