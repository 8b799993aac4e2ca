// separable_conv_batch_norm on the CPU; params/separable_conv_batch_norm.h has the maths.
//
// norm1 is linear and so part of the matrix: mixed = (W diag(scale)) filtered + W shift. No normalised map is stored but y.
//
// Passes   1  a plane: filtered and its moments; none without a depthwise convolution        reads x, writes filtered
//          2  an image: mixed and its moments                                                reads filtered, writes mixed
//          3  a plane: y                                                                     reads mixed, writes y
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = SeparableConvBatchNormParams;

struct Sizes {
  int height, width, pixels;  // of the output
  explicit Sizes(const Params& p)
      : height(divide_up(p.height, p.stride)), width(divide_up(p.width, p.stride)), pixels(height * width) {}
};

template <class A>
struct Shared {
  Moments<A>*filtered, *mixed;  // [N][C], [N][K]
  A *matrix, *bias;             // [K][C], [K]
  A *scale, *shift;             // [C], of norm1
  Shared(Cutter& cutter, const Params& p)
      : filtered(cutter.cut<Moments<A>>(static_cast<std::int64_t>(p.batch) * p.channels)),
        mixed(cutter.cut<Moments<A>>(static_cast<std::int64_t>(p.batch) * p.outputs)),
        matrix(cutter.cut<A>(static_cast<std::int64_t>(p.outputs) * p.channels)),
        bias(cutter.cut<A>(p.outputs)),
        scale(cutter.cut<A>(p.channels)),
        shift(cutter.cut<A>(p.channels)) {}
};

template <class A>
struct Own {
  A *map, *filtered;
  Own(Cutter& cutter, const Params& p) {
    const Sizes s(p);
    const bool filters = p.depthwise_weight != nullptr;
    map = cutter.cut<A>(filters ? MapShape<A>{s.width, s.height, p.stride}.elements() : 0);
    filtered = cutter.cut<A>(filters ? s.pixels + kLanes<A> : 0);
  }
};

template <class T>
void filter(const Params& p, int image, int first, int end, const Own<acc_t<T>>& own, Moments<acc_t<T>>* moments) {
  using A = acc_t<T>;
  const Sizes s(p);
  const MapShape<A> shape{s.width, s.height, p.stride};
  clear(own.map, shape.elements());
  for (int c = first; c < end; ++c) {
    const T* x = static_cast<const T*>(p.x) + image * p.x_image_stride + c * p.x_plane_stride;
    fill_map(own.map, shape, 0, p.height, p.width,
             [&](int y, int i, int count) { return load(x + static_cast<std::int64_t>(y) * p.width + i, count); });
    FilterWeights<A> weights;
    for (int i = 0; i < 9; ++i) weights.tap[i] = static_cast<const A*>(p.depthwise_weight)[c * 9 + i];
    weights.bias = 0;
    filter_map(own.map, shape, weights, own.filtered);
    const std::int64_t number = static_cast<std::int64_t>(image) * p.channels + c;
    T* to = static_cast<T*>(p.filtered) + number * s.pixels;
    for_vectors<A>(s.pixels, [&](int i, int count) { store(to + i, load(own.filtered + i, count), count); });
    if (p.batch_statistics) moments[number] = plane_moments(to, s.pixels);
  }
}

template <class T>
void run(const Params& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<A>, Own<A>, Params> place(p, team);
  const Shared<A>& shared = place.shared;
  const Sizes s(p);
  const Slices slices(p.batch, team.threads);
  const bool filters = p.depthwise_weight != nullptr;
  if (filters) {
    place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
      filter<T>(p, slices.image(task), slices.first(task, p.channels), slices.end(task, p.channels), own,
                shared.filtered);
    });
    if (p.batch_statistics) merge_moments(p.norm1, p.channels, shared.filtered, p.channels, p.batch, s.pixels);
  }
  const bool mixes = p.weight != nullptr;
  const A* weight = static_cast<const A*>(p.weight);
  for (int c = 0; mixes && c < p.channels; ++c) {
    const Normalisation<A> norm = normalisation<A>(p.norm1, c, p.eps);
    shared.scale[c] = norm.scale(), shared.shift[c] = norm.shift();
  }
  for (int k = 0; mixes && k < p.outputs; ++k) {
    const std::int64_t row = static_cast<std::int64_t>(k) * p.channels;
    for_vectors<A>(p.channels, [&](int c, int count) {
      store(shared.matrix + row + c, load(weight + row + c, count) * load(shared.scale + c, count), count);
    });
    shared.bias[k] = dot(weight + row, static_cast<const A*>(shared.shift), p.channels);
  }

  const T* source = static_cast<const T*>(filters ? p.filtered : p.x);
  const std::int64_t plane_stride = filters ? s.pixels : p.x_plane_stride;
  const std::int64_t image_stride = filters ? plane_stride * p.channels : p.x_image_stride;
  if (!mixes && p.batch_statistics)
    place.for_each(slices.tasks(), [&](int task, const Own<A>&) {
      const int image = slices.image(task);
      for (int k = slices.first(task, p.outputs); k < slices.end(task, p.outputs); ++k)
        shared.mixed[image * p.outputs + k] = plane_moments(source + image * image_stride + k * plane_stride, s.pixels);
    });
  place.for_each(mixes ? p.batch : 0, [&](int image, const Own<A>&) {
    T* mixed = static_cast<T*>(p.mixed) + static_cast<std::int64_t>(image) * p.outputs * s.pixels;
    matrix_product(StridedMatrix<A>{shared.matrix, p.channels, p.outputs, p.channels, 1},
                   static_cast<const A*>(shared.bias), RegularColumns<T>{source + image * image_stride, plane_stride}, 0,
                   s.pixels, StoreRegular<false, T>{mixed, s.pixels});
    if (!p.batch_statistics) return;
    for (int k = 0; k < p.outputs; ++k)
      shared.mixed[image * p.outputs + k] = plane_moments(mixed + static_cast<std::int64_t>(k) * s.pixels, s.pixels);
  });
  if (p.batch_statistics) merge_moments(p.norm2, p.outputs, shared.mixed, p.outputs, p.batch, s.pixels);

  place.for_each(slices.tasks(), [&](int task, const Own<A>&) {
    for (int k = slices.first(task, p.outputs); k < slices.end(task, p.outputs); ++k) {
      const std::int64_t at = (static_cast<std::int64_t>(slices.image(task)) * p.outputs + k) * s.pixels;
      const Normalisation<A> norm = normalisation<A>(p.norm2, k, p.eps);
      const Vector<A> scale = broadcast(norm.scale()), shift = broadcast(norm.shift());
      const T* from = mixes ? static_cast<const T*>(p.mixed) + at
                            : source + slices.image(task) * image_stride + k * plane_stride;
      T* to = static_cast<T*>(p.y) + at;
      if (p.relu)
        for_vectors<A>(s.pixels, [&](int i, int count) {
          store(to + i, relu(fma(load(from + i, count), scale, shift)), count);
        });
      else
        for_vectors<A>(s.pixels,
                       [&](int i, int count) { store(to + i, fma(load(from + i, count), scale, shift), count); });
    }
  });
}

}  // namespace

std::size_t separable_conv_batch_norm_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Own<A>>(params, threads);
  });
}

void separable_conv_batch_norm(const Params& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
