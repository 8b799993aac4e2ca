// separable_conv_batch_norm_backward on the CPU. With f = filtered, m = mixed, z = norm1(f), G = grad m:
//
//   G = norm2'(grad_y where y is positive)     M = sum of G (f - mean1)^T     S = sum of G, over all pixels
//   grad W = M diag(scale1) + S bias1^T        grad bias1 = W^T S             grad weight1 = diag(W^T M) / deviation1
//   grad f = norm1'(W^T G)
//
// as the sums that norm1's backward pass needs follow from those for the matrix.
//
// Passes   1  a plane: sums for norm2                                          reads grad_y, mixed
//          2  a group of images: G, M, S; without depthwise convolution grad_x  reads grad_y, mixed, filtered
//          3  an image: G again, grad f, grad_x, gradients of taps              reads grad_y, mixed, filtered, x; writes
//                                                                               grad_x
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = SeparableConvBatchNormBackwardParams;

struct Sizes {
  int height, width, pixels;  // of the output
  explicit Sizes(const Params& p)
      : height(divide_up(p.height, p.stride)), width(divide_up(p.width, p.stride)), pixels(height * width) {}
};

template <class A>
struct Pair {
  A sum, sum_normalised;
};

template <class A>
struct Shared {
  Pair<A>* sums;            // [N][K]
  NormGradient<A>*mixed, *filtered;
  A *products, *totals;     // [groups][K][C], [groups][K]: M and S
  A *product, *total;       // [K][C], [K]
  A *matrix, *means, *scale;  // [K][C], W diag(scale1); [C]
  A* taps;                  // [N][C][9]
  Shared(Cutter& cutter, const Params& p) {
    const std::int64_t groups = Groups(p.batch).count, matrix_size = static_cast<std::int64_t>(p.outputs) * p.channels;
    sums = cutter.cut<Pair<A>>(static_cast<std::int64_t>(p.batch) * p.outputs);
    mixed = cutter.cut<NormGradient<A>>(p.outputs), filtered = cutter.cut<NormGradient<A>>(p.channels);
    products = cutter.cut<A>(groups * matrix_size), totals = cutter.cut<A>(groups * p.outputs);
    product = cutter.cut<A>(matrix_size), total = cutter.cut<A>(p.outputs);
    matrix = cutter.cut<A>(matrix_size), means = cutter.cut<A>(p.channels), scale = cutter.cut<A>(p.channels);
    taps = cutter.cut<A>(static_cast<std::int64_t>(p.batch) * p.channels * 9);
  }
};

template <class A>
struct Own {
  A *grad_mixed, *grad_filtered;  // [K][pitch], [C][pitch]
  A *gradient_map, *pixel_map, *grad_x, *transposed;
  Own(Cutter& cutter, const Params& p) {
    const Sizes s(p);
    const std::int64_t pitch = plane_pitch<A>(s.pixels);
    const bool filters = p.depthwise_weight != nullptr;
    grad_mixed = cutter.cut<A>(p.weight == nullptr ? 0 : p.outputs * pitch);
    grad_filtered = cutter.cut<A>(filters ? p.channels * pitch : 0);
    transposed = cutter.cut<A>(p.weight == nullptr ? 0 : transposed_elements<A>(p.channels));
    gradient_map = cutter.cut<A>(filters ? MapShape<A>{s.width, s.height, 1}.elements() : 0);
    pixel_map = cutter.cut<A>(filters ? MapShape<A>{s.width, s.height, p.stride}.elements() : 0);
    grad_x = cutter.cut<A>(filters ? p.height * p.width + 2 * kLanes<A> : 0);
  }
};

// Calls f(i, count, gradient, mixed - mean) for a plane; the gradient is that of norm2's output.
template <class T, class F>
LITEHRNET_INLINE void for_gradients(const Params& p, const Normalisation<acc_t<T>>& norm, int pixels, int image,
                                    int channel, const F& f) {
  using A = acc_t<T>;
  const T* grad =
      static_cast<const T*>(p.grad_y) + image * p.grad_y_image_stride + channel * p.grad_y_plane_stride;
  const T* mixed = p.mixed == nullptr
                       ? static_cast<const T*>(p.x) + image * p.x_image_stride + channel * p.x_plane_stride
                       : static_cast<const T*>(p.mixed) + (static_cast<std::int64_t>(image) * p.outputs + channel) * pixels;
  const Vector<A> scale = broadcast(norm.scale()), shift = broadcast(norm.shift()), mean = broadcast(norm.mean);
  const bool relu = p.relu;
  for_vectors<A>(pixels, [&](int i, int count) {
    Vector<A> g = load(grad + i, count);
    const Vector<A> m = load(mixed + i, count);
    if (relu) g = fma(m, scale, shift) <= 0 ? zero<A>() : g;
    f(i, count, g, m - mean);
  });
}

// An image's G
template <class T>
void fill_grad_mixed(const Params& p, const NormGradient<acc_t<T>>* gradients, int image, acc_t<T>* to) {
  using A = acc_t<T>;
  const int pixels = Sizes(p).pixels, pitch = plane_pitch<A>(pixels);
  for (int k = 0; k < p.outputs; ++k, to += pitch) {
    const NormGradient<A>& g = gradients[k];
    const Vector<A> factor = broadcast(g.factor), slope = broadcast(g.slope), shift = broadcast(g.shift);
    for_gradients<T>(p, normalisation<A>(p.norm2, k, p.eps), pixels, image, k,
                     [&](int i, int, Vector<A> grad, Vector<A> d) {
                       store(to + i, fma(d, slope, fma(grad, factor, shift)));
                     });
  }
}

// y = sums + slope (f - mean) + shift
template <class T>
struct AddNormGradient {
  const NormGradient<acc_t<T>>* gradients;
  const T* filtered;
  acc_t<T>* to;
  int pixels, pitch;
  struct Row {
    const T* filtered;
    acc_t<T>* to;
    Vector<acc_t<T>> slope, mean, shift;
    LITEHRNET_INLINE void operator()(int pixel, Vector<acc_t<T>> v, int count) const {
      store(to + pixel, fma(load(filtered + pixel, count) - mean, slope, v + shift));
    }
  };
  LITEHRNET_INLINE Row operator()(int row) const {
    const NormGradient<acc_t<T>>& g = gradients[row];
    return {filtered + static_cast<std::int64_t>(row) * pixels, to + static_cast<std::int64_t>(row) * pitch,
            broadcast(g.slope), broadcast(g.mean), broadcast(g.shift)};
  }
};

template <class T>
void run(const Params& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<A>, Own<A>, Params> place(p, team);
  const Shared<A>& shared = place.shared;
  const Sizes s(p);
  const Slices slices(p.batch, team.threads);
  const Groups groups(p.batch);
  const bool filters = p.depthwise_weight != nullptr;
  const int channels = p.channels, outputs = p.outputs, pixels = s.pixels, pitch = plane_pitch<A>(pixels);
  const std::int64_t matrix_size = static_cast<std::int64_t>(outputs) * channels;
  const A* weight = static_cast<const A*>(p.weight);
  const double count = static_cast<double>(p.batch) * pixels;

  place.for_each(slices.tasks(), [&](int task, const Own<A>&) {
    const int image = slices.image(task);
    for (int k = slices.first(task, outputs); k < slices.end(task, outputs); ++k) {
      const Normalisation<A> norm = normalisation<A>(p.norm2, k, p.eps);
      Vector<A> sum{}, sum_centred{};
      for_gradients<T>(p, norm, pixels, image, k, [&](int, int lanes, Vector<A> grad, Vector<A> d) {
        if (lanes < kLanes<A>) grad = keep_first<A>(grad, lanes);
        sum += grad, sum_centred = fma(grad, d, sum_centred);
      });
      shared.sums[image * outputs + k] = {sum_of_lanes(sum), sum_of_lanes(sum_centred) * norm.inverse};
    }
  });
  for (int k = 0; k < outputs; ++k) {
    double sum = 0, sum_normalised = 0;
    for (int n = 0; n < p.batch; ++n)
      sum += shared.sums[n * outputs + k].sum, sum_normalised += shared.sums[n * outputs + k].sum_normalised;
    static_cast<A*>(p.grad_norm2_bias)[k] = static_cast<A>(sum);
    static_cast<A*>(p.grad_norm2_weight)[k] = static_cast<A>(sum_normalised);
    shared.mixed[k] =
        norm_gradient(normalisation<A>(p.norm2, k, p.eps), sum, sum_normalised, count, p.batch_statistics);
  }
  if (p.weight == nullptr) {
    place.for_each(p.grad_x == nullptr ? 0 : slices.tasks(), [&](int task, const Own<A>&) {
      const int image = slices.image(task);
      for (int k = slices.first(task, outputs); k < slices.end(task, outputs); ++k) {
        const NormGradient<A>& g = shared.mixed[k];
        const Vector<A> factor = broadcast(g.factor), slope = broadcast(g.slope), shift = broadcast(g.shift);
        T* to = static_cast<T*>(p.grad_x) + (static_cast<std::int64_t>(image) * outputs + k) * pixels;
        for_gradients<T>(p, normalisation<A>(p.norm2, k, p.eps), pixels, image, k,
                         [&](int i, int lanes, Vector<A> grad, Vector<A> d) {
                           store(to + i, fma(d, slope, fma(grad, factor, shift)), lanes);
                         });
      }
    });
    return;
  }
  for (int c = 0; c < channels; ++c) shared.means[c] = normalisation<A>(p.norm1, c, p.eps).mean;

  place.for_each(groups.count, [&](int group, const Own<A>& own) {
    A* products = shared.products + group * matrix_size;
    A* totals = shared.totals + group * outputs;
    clear(products, static_cast<int>(matrix_size));
    clear(totals, outputs);
    for (int image = groups.first(group); image < groups.end(group); ++image) {
      fill_grad_mixed<T>(p, shared.mixed, image, own.grad_mixed);
      if (filters) {
        const T* filtered = static_cast<const T*>(p.filtered) + static_cast<std::int64_t>(image) * channels * pixels;
        add_products_of_planes<true>(own.grad_mixed, pitch, outputs, filtered, pixels, channels,
                                     static_cast<const A*>(shared.means), pixels, own.transposed, products);
        for (int k = 0; k < outputs; ++k) {
          const A* from = own.grad_mixed + static_cast<std::int64_t>(k) * pitch;
          totals[k] += sum_of<A>(pixels, [&](int i, int lanes) { return load(from + i, lanes); });
        }
        continue;
      }
      const T* x = static_cast<const T*>(p.x) + image * p.x_image_stride;
      add_products_of_planes<false>(own.grad_mixed, pitch, outputs, x, p.x_plane_stride, channels,
                                    static_cast<const A*>(nullptr), pixels, own.transposed, products);
      if (p.grad_x == nullptr) continue;
      matrix_product(StridedMatrix<A>{weight, outputs, channels, 1, channels}, static_cast<const A*>(nullptr),
                     RegularColumns<A>{own.grad_mixed, pitch}, 0, pixels,
                     StoreRegular<false, T>{
                         static_cast<T*>(p.grad_x) + static_cast<std::int64_t>(image) * channels * pixels, pixels});
    }
  });
  A* const product = filters ? shared.product : static_cast<A*>(p.grad_weight);
  place.for_ranges(static_cast<int>(matrix_size), [&](int first, int end, const Own<A>&) {
    sum_parts(shared.products, matrix_size, groups.count, first, end, product);
  });
  if (!filters) return;

  sum_parts(shared.totals, outputs, groups.count, 0, outputs, shared.total);
  A *const bias = static_cast<A*>(p.grad_norm1_bias), *const norm_weight = static_cast<A*>(p.grad_norm1_weight);
  for (int c = 0; c < channels; ++c) {
    shared.scale[c] = normalisation<A>(p.norm1, c, p.eps).scale();
    bias[c] = norm_weight[c] = 0;
  }
  for (int k = 0; k < outputs; ++k) {
    const std::int64_t row = static_cast<std::int64_t>(k) * channels;
    const Vector<A> total = broadcast(shared.total[k]);
    for_vectors<A>(channels, [&](int c, int lanes) {
      const Vector<A> w = load(weight + row + c, lanes), m = load(product + row + c, lanes);
      const Vector<A> scale = load(shared.scale + c, lanes);
      store(bias + c, fma(w, total, load(bias + c, lanes)), lanes);
      store(norm_weight + c, fma(w, m, load(norm_weight + c, lanes)), lanes);
      store(static_cast<A*>(p.grad_weight) + row + c,
            fma(m, scale, total * load(static_cast<const A*>(p.norm1.bias) + c, lanes)), lanes);
      store(shared.matrix + row + c, w * scale, lanes);
    });
  }
  for (int c = 0; c < channels; ++c) {
    const Normalisation<A> norm = normalisation<A>(p.norm1, c, p.eps);
    norm_weight[c] *= norm.inverse;
    shared.filtered[c] = norm_gradient(norm, bias[c], norm_weight[c], count, p.batch_statistics);
  }

  place.for_each(p.batch, [&](int image, const Own<A>& own) {
    fill_grad_mixed<T>(p, shared.mixed, image, own.grad_mixed);
    const T* filtered = static_cast<const T*>(p.filtered) + static_cast<std::int64_t>(image) * channels * pixels;
    matrix_product(StridedMatrix<A>{shared.matrix, outputs, channels, 1, channels}, static_cast<const A*>(nullptr),
                   RegularColumns<A>{own.grad_mixed, pitch}, 0, pixels,
                   AddNormGradient<T>{shared.filtered, filtered, own.grad_filtered, pixels, pitch});
    const MapShape<A> gradient_shape{s.width, s.height, 1}, pixel_shape{s.width, s.height, p.stride};
    clear(own.gradient_map, gradient_shape.elements());
    clear(own.pixel_map, pixel_shape.elements());
    for (int c = 0; c < channels; ++c) {
      const T* x = static_cast<const T*>(p.x) + image * p.x_image_stride + c * p.x_plane_stride;
      fill_map(own.pixel_map, pixel_shape, 0, p.height, p.width,
               [&](int y, int i, int lanes) { return load(x + static_cast<std::int64_t>(y) * p.width + i, lanes); });
      const A* gradients = own.grad_filtered + static_cast<std::int64_t>(c) * pitch;
      fill_map(own.gradient_map, gradient_shape, 0, s.height, s.width,
               [&](int y, int i, int) { return load(gradients + y * s.width + i); });
      const std::int64_t number = static_cast<std::int64_t>(image) * channels + c;
      tap_gradients(own.gradient_map, own.pixel_map, pixel_shape, shared.taps + number * 9);
      if (p.grad_x == nullptr) continue;
      FilterWeights<A> weights{{}, 0};
      for (int i = 0; i < 9; ++i) weights.tap[i] = static_cast<const A*>(p.depthwise_weight)[c * 9 + i];
      filter_transposed(own.gradient_map, gradient_shape, weights, p.stride, p.height, p.width, own.grad_x);
      T* to = static_cast<T*>(p.grad_x) + number * p.height * p.width;
      for_vectors<A>(p.height * p.width, [&](int i, int lanes) { store(to + i, load(own.grad_x + i, lanes), lanes); });
    }
  });
  sum_parts(shared.taps, static_cast<std::int64_t>(channels) * 9, p.batch, 0, channels * 9,
            static_cast<A*>(p.grad_depthwise_weight));
}

}  // namespace

std::size_t separable_conv_batch_norm_backward_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Own<A>>(params, threads);
  });
}

void separable_conv_batch_norm_backward(const Params& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
