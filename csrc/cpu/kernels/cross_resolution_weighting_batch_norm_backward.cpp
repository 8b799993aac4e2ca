// cross_resolution_weighting_batch_norm_backward on the CPU: the gradients of
//
//   hidden = W1 pool(x)   logits = W2 relu(norm1(hidden))   g = sigmoid(norm2(logits))   y_i = x_i * upsample(g)_i
//
// Passes   1  a plane: dg, sums over windows of grad_y x, and pool(x)     reads grad_y and x; left out if given
//          2  a plane of positions: dn2 = dg g (1 - g), its sums
//          3  an image: dlogits, dn1, sums; a group of images: grad W2
//          4  an image: dhidden, dpooled; a group of images: grad W1
//          5  a plane: grad_x                                             reads grad_y, writes grad_x
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = CrossResolutionWeightingBatchNormBackwardParams;
using Branch = CrossResolutionWeightingBatchNormBackwardBranch;

template <class A>
struct Pair {
  A sum, sum_normalised;
};

struct Sizes {
  int channels = 0, rows, positions, widest = 0;
  explicit Sizes(const Params& p) : rows(p.hidden_channels) {
    const Branch& last = p.branch[p.branches - 1];
    positions = last.height * last.width;
    for (int b = 0; b < p.branches; ++b) channels += p.branch[b].channels, widest = most(widest, p.branch[b].width);
  }
};

template <class A>
struct Shared {
  A *grad_gates, *pooled;              // [N][C][P]; the first becomes that of norm2's output, of logits, of pooled
  A* grad_hidden;                      // [N][R][P], of norm1's output
  Pair<A>*logit_sums, *hidden_sums;    // [N][C], [N][R]
  NormGradient<A>*logits, *hidden;     // [C], [R]
  A *w1, *w2;                          // [groups][R][C], [groups][C][R]
  Shared(Cutter& cutter, const Params& p) {
    const Sizes s(p);
    const std::int64_t n = p.batch, groups = Groups(p.batch).count;
    grad_gates = cutter.cut<A>(n * s.channels * s.positions + kLanes<A>);
    pooled = cutter.cut<A>(n * s.channels * s.positions);
    grad_hidden = cutter.cut<A>(n * s.rows * s.positions);
    logit_sums = cutter.cut<Pair<A>>(n * s.channels), hidden_sums = cutter.cut<Pair<A>>(n * s.rows);
    logits = cutter.cut<NormGradient<A>>(s.channels), hidden = cutter.cut<NormGradient<A>>(s.rows);
    w1 = cutter.cut<A>(groups * s.rows * s.channels), w2 = cutter.cut<A>(groups * s.rows * s.channels);
  }
};

template <class A>
struct Own {
  typename Resolutions<A>::Room room;
  A *activations, *gates, *row, *added, *transposed;
  Own(Cutter& cutter, const Params& p) : room(cutter, Sizes(p).widest, p.branch[p.branches - 1].width) {
    const Sizes s(p);
    activations = cutter.cut<A>(static_cast<std::int64_t>(s.rows) * s.positions);
    gates = cutter.cut<A>(s.positions + kLanes<A>);
    row = cutter.cut<A>(s.widest), added = cutter.cut<A>(s.widest);
    transposed = cutter.cut<A>(transposed_elements<A>(most(s.rows, s.channels)));
  }
};

template <class A>
void finish_norm(const BatchNorm& norm, void* grad_weight, void* grad_bias, int channels, const Pair<A>* sums,
                 const Params& p, int positions, NormGradient<A>* gradients) {
  for (int c = 0; c < channels; ++c) {
    double sum = 0, sum_normalised = 0;
    for (int n = 0; n < p.batch; ++n)
      sum += sums[n * channels + c].sum, sum_normalised += sums[n * channels + c].sum_normalised;
    static_cast<A*>(grad_bias)[c] = static_cast<A>(sum);
    static_cast<A*>(grad_weight)[c] = static_cast<A>(sum_normalised);
    gradients[c] = norm_gradient(normalisation<A>(norm, c, p.eps), sum, sum_normalised,
                                 static_cast<double>(p.batch) * positions, p.batch_statistics);
  }
}

template <class T>
void run(const Params& p, const Team& team, const PositionSums& given) {
  using A = acc_t<T>;
  Workplace<Shared<A>, Own<A>, Params> place(p, team);
  const Shared<A>& shared = place.shared;
  const Sizes s(p);
  const Branch& last = p.branch[p.branches - 1];
  const int channels = s.channels, rows = s.rows, positions = s.positions;
  const Slices slices(p.batch, team.threads);
  const Groups groups(p.batch);
  A* const grad_gates = given.grad_gates != nullptr ? static_cast<A*>(given.grad_gates) : shared.grad_gates;
  A* const pooled = given.pooled != nullptr ? static_cast<A*>(given.pooled) : shared.pooled;
  const auto plane = [](auto* base, std::int64_t image_stride, std::int64_t plane_stride, int image, int channel) {
    return base + image * image_stride + channel * plane_stride;
  };
  const auto first_position = [&](int image, int channel) {
    return (static_cast<std::int64_t>(image) * channels + channel) * positions;
  };

  if (given.grad_gates == nullptr)
    place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
      const int image = slices.image(task);
      int first = 0;
      for (int b = 0; b < p.branches; first += p.branch[b].channels, ++b) {
        const Branch& branch = p.branch[b];
        const int width = branch.width;
        const Resolutions<A> resolutions(own.room, branch.height, width, last.height, last.width);
        for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
          const T* x = plane(static_cast<const T*>(branch.x), branch.x_image_stride, branch.x_plane_stride, image, c);
          const T* grad = plane(static_cast<const T*>(branch.grad_y), branch.grad_y_image_stride,
                                branch.grad_y_plane_stride, image, c);
          const std::int64_t at = first_position(image, first + c);
          resolutions.sum_readers(
              [&](int y, int i, int count) { return load(grad + y * width + i, count) * load(x + y * width + i, count); },
              grad_gates + at);
          resolutions.pool([&](int y, int i, int count) { return load(x + y * width + i, count); }, pooled + at);
        }
      }
    });

  const T* const logits = static_cast<const T*>(p.logits);
  place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
    const int image = slices.image(task);
    for (int c = slices.first(task, channels); c < slices.end(task, channels); ++c) {
      const std::int64_t at = first_position(image, c);
      const Normalisation<A> norm = normalisation<A>(p.norm2, c, p.eps);
      position_gates(logits + at, norm, positions, own.gates);
      const Vector<A> mean = broadcast(norm.mean), one = broadcast(static_cast<A>(1));
      Vector<A> sum{}, sum_centred{};
      for_vectors<A>(positions, [&](int i, int count) {
        const Vector<A> g = load(own.gates + i);
        Vector<A> dn = load(grad_gates + at + i, count) * g * (one - g);
        if (count < kLanes<A>) dn = keep_first<A>(dn, count);
        store(grad_gates + at + i, dn, count);
        sum += dn, sum_centred = fma(dn, load(logits + at + i, count) - mean, sum_centred);
      });
      shared.logit_sums[image * channels + c] = {sum_of_lanes(sum), sum_of_lanes(sum_centred) * norm.inverse};
    }
  });
  finish_norm(p.norm2, p.grad_norm2_weight, p.grad_norm2_bias, channels, shared.logit_sums, p, positions, shared.logits);

  const std::int64_t matrix = static_cast<std::int64_t>(rows) * channels;
  place.for_each(groups.count, [&](int group, const Own<A>& own) {
    A* grad_w2 = shared.w2 + group * matrix;
    clear(grad_w2, static_cast<int>(matrix));
    for (int image = groups.first(group); image < groups.end(group); ++image) {
      A* grad_logits = grad_gates + first_position(image, 0);
      for (int c = 0; c < channels; ++c) {
        const NormGradient<A>& k = shared.logits[c];
        const Vector<A> factor = broadcast(k.factor), slope = broadcast(k.slope), mean = broadcast(k.mean);
        const Vector<A> shift = broadcast(k.shift);
        A* to = grad_logits + static_cast<std::int64_t>(c) * positions;
        const T* from = logits + first_position(image, c);
        for_vectors<A>(positions, [&](int i, int count) {
          store(to + i, fma(load(from + i, count) - mean, slope, fma(load(to + i, count), factor, shift)), count);
        });
      }
      const std::int64_t at = static_cast<std::int64_t>(image) * rows * positions;
      const A* hidden = static_cast<const A*>(p.hidden) + at;
      for (int r = 0; r < rows; ++r) {
        const Normalisation<A> norm = normalisation<A>(p.norm1, r, p.eps);
        const Vector<A> scale = broadcast(norm.scale()), shift = broadcast(norm.shift());
        const std::int64_t row = static_cast<std::int64_t>(r) * positions;
        for_vectors<A>(positions, [&](int i, int count) {
          store(own.activations + row + i, relu(fma(load(hidden + row + i, count), scale, shift)), count);
        });
      }
      add_products_of_planes<false>(grad_logits, positions, channels, own.activations, positions, rows,
                                    static_cast<const A*>(nullptr), positions, own.transposed, grad_w2);
      A* grad_hidden = shared.grad_hidden + at;
      matrix_product(StridedMatrix<A>{static_cast<const A*>(p.w2), channels, rows, 1, rows},
                     static_cast<const A*>(nullptr), RegularColumns<A>{grad_logits, positions}, 0, positions,
                     StoreRegular<false, A>{grad_hidden, positions});
      for (int r = 0; r < rows; ++r) {
        const Normalisation<A> norm = normalisation<A>(p.norm1, r, p.eps);
        const std::int64_t row = static_cast<std::int64_t>(r) * positions;
        const Vector<A> mean = broadcast(norm.mean);
        Vector<A> sum{}, sum_centred{};
        for_vectors<A>(positions, [&](int i, int count) {
          const Vector<A> active = load(own.activations + row + i, count);
          Vector<A> dn = load(grad_hidden + row + i, count);
          dn = active <= 0 ? zero<A>() : dn;
          store(grad_hidden + row + i, dn, count);
          sum += dn, sum_centred = fma(dn, load(hidden + row + i, count) - mean, sum_centred);
        });
        shared.hidden_sums[image * rows + r] = {sum_of_lanes(sum), sum_of_lanes(sum_centred) * norm.inverse};
      }
    }
  });
  finish_norm(p.norm1, p.grad_norm1_weight, p.grad_norm1_bias, rows, shared.hidden_sums, p, positions, shared.hidden);

  place.for_each(groups.count, [&](int group, const Own<A>& own) {
    A* grad_w1 = shared.w1 + group * matrix;
    clear(grad_w1, static_cast<int>(matrix));
    for (int image = groups.first(group); image < groups.end(group); ++image) {
      const std::int64_t at = static_cast<std::int64_t>(image) * rows * positions;
      A* grad_hidden = shared.grad_hidden + at;
      const A* hidden = static_cast<const A*>(p.hidden) + at;
      for (int r = 0; r < rows; ++r) {
        const NormGradient<A>& k = shared.hidden[r];
        const Vector<A> factor = broadcast(k.factor), slope = broadcast(k.slope), mean = broadcast(k.mean);
        const Vector<A> shift = broadcast(k.shift);
        const std::int64_t row = static_cast<std::int64_t>(r) * positions;
        for_vectors<A>(positions, [&](int i, int count) {
          store(grad_hidden + row + i,
                fma(load(hidden + row + i, count) - mean, slope, fma(load(grad_hidden + row + i, count), factor, shift)),
                count);
        });
      }
      add_products_of_planes<false>(grad_hidden, positions, rows, pooled + first_position(image, 0), positions, channels,
                                    static_cast<const A*>(nullptr), positions, own.transposed, grad_w1);
      matrix_product(StridedMatrix<A>{static_cast<const A*>(p.w1), rows, channels, 1, channels},
                     static_cast<const A*>(nullptr), RegularColumns<A>{grad_hidden, positions}, 0, positions,
                     StoreRegular<false, A>{grad_gates + first_position(image, 0), positions});
    }
  });
  place.for_ranges(static_cast<int>(matrix), [&](int first, int end, const Own<A>&) {
    sum_parts(shared.w1, matrix, groups.count, first, end, static_cast<A*>(p.grad_w1));
    sum_parts(shared.w2, matrix, groups.count, first, end, static_cast<A*>(p.grad_w2));
  });

  place.for_each(slices.tasks(), [&](int task, const Own<A>& own) {
    const int image = slices.image(task);
    int first = 0;
    for (int b = 0; b < p.branches; first += p.branch[b].channels, ++b) {
      const Branch& branch = p.branch[b];
      const Resolutions<A> resolutions(own.room, branch.height, branch.width, last.height, last.width);
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const std::int64_t at = first_position(image, first + c);
        position_gates(logits + at, normalisation<A>(p.norm2, first + c, p.eps), positions, own.gates);
        resolutions.divide(grad_gates + at);
        const T* grad = plane(static_cast<const T*>(branch.grad_y), branch.grad_y_image_stride,
                              branch.grad_y_plane_stride, image, c);
        T* to = plane(static_cast<T*>(branch.grad_x), branch.grad_x_image_stride, branch.grad_x_plane_stride, image, c);
        int gate_row = -1;
        for (int y = 0; y < branch.height; ++y, grad += branch.width, to += branch.width) {
          const int nearest = resolutions.nearest_row(y);
          if (nearest != gate_row) resolutions.upsample(own.gates + nearest * last.width, own.row), gate_row = nearest;
          resolutions.unpool(grad_gates + at, y, own.added);
          for_vectors<A>(branch.width, [&](int i, int count) {
            store(to + i, fma(load(grad + i, count), load(own.row + i), load(own.added + i)), count);
          });
        }
      }
    }
  });
}

}  // namespace

std::size_t cross_resolution_weighting_batch_norm_backward_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Own<A>>(params, threads);
  });
}

void cross_resolution_weighting_batch_norm_backward(const Params& params, DType dtype, const Team& team,
                                                    const PositionSums& sums) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team, sums); });
}
void cross_resolution_weighting_batch_norm_backward(const Params& params, DType dtype, const Team& team) {
  cross_resolution_weighting_batch_norm_backward(params, dtype, team, PositionSums{nullptr, nullptr});
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
