// spatial_weighting_backward on the CPU. With do = grad_y, P pixels a plane, N images:
//
//   n = (x - mean) / sqrt(variance + eps)    z = weight n + bias    y = z q    q = sigmoid(W2 relu(W1 m + b1) + b2)
//   dl = q (1 - q) sum(do z)    dm = W1^T [h > 0] W2^T dl    dz = do q + dm / P
//
// Passes   1  a plane: sums of do, do n and n                       reads grad_output and x, copies grad_kept
//          2  an image: gates, dl, dm
//          3  a branch: gradients of weights; a channel: those of the norm, coefficients of dx
//          4  a plane: grad_x, where it is wanted                   reads grad_output and x, writes grad_x
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = SpatialWeightingBackwardParams;
using Branch = SpatialWeightingBackwardBranch;

template <class A>
struct PlaneSums {
  A grad, grad_normalised, normalised;  // of do, do n, n
};

template <class A>
struct OfBranch {
  PlaneSums<A>* sums;                     // [N][c]
  A *means, *gates, *grad_logits, *grad_means;  // [N][c]: m, q, dl, dm
  A *hidden, *grad_hidden;                // [N][R]
};

template <class A>
struct Shared {
  OfBranch<A> branch[kMaxBranches];
  Shared(Cutter& cutter, const Params& p) {
    for (int b = 0; b < p.branches; ++b) {
      const std::int64_t channels = static_cast<std::int64_t>(p.batch) * p.branch[b].channels;
      const std::int64_t rows = static_cast<std::int64_t>(p.batch) * p.branch[b].hidden;
      OfBranch<A>& s = branch[b];
      s.sums = cutter.cut<PlaneSums<A>>(channels);
      s.means = cutter.cut<A>(channels), s.gates = cutter.cut<A>(channels);
      s.grad_logits = cutter.cut<A>(channels), s.grad_means = cutter.cut<A>(channels);
      s.hidden = cutter.cut<A>(rows), s.grad_hidden = cutter.cut<A>(rows);
    }
  }
};

template <class A>
void weigh(const Branch& branch, const OfBranch<A>& s, int image, double eps) {
  const int channels = branch.channels, rows = branch.hidden;
  const A pixels = static_cast<A>(branch.height * branch.width);
  const std::int64_t c0 = static_cast<std::int64_t>(image) * channels, r0 = static_cast<std::int64_t>(image) * rows;
  A *means = s.means + c0, *gates = s.gates + c0, *grad_logits = s.grad_logits + c0, *grad_means = s.grad_means + c0;
  A *hidden = s.hidden + r0, *grad_hidden = s.grad_hidden + r0;
  for (int c = 0; c < channels; ++c) {
    const Normalisation<A> norm = normalisation<A>(branch.norm, c, eps);
    means[c] = norm.weight * s.sums[c0 + c].normalised / pixels + norm.bias;
    grad_means[c] = 0;
  }
  if (branch.w1 == nullptr) {
    for (int c = 0; c < channels; ++c) gates[c] = 1;
    return;
  }
  const A *w1 = static_cast<const A*>(branch.w1), *w2 = static_cast<const A*>(branch.w2);
  for (int r = 0; r < rows; ++r) {
    const A v = dot(w1 + static_cast<std::int64_t>(r) * channels, means, channels) + static_cast<const A*>(branch.b1)[r];
    hidden[r] = v < 0 ? 0 : v;
    grad_hidden[r] = 0;
  }
  for (int c = 0; c < channels; ++c)
    gates[c] = dot(w2 + static_cast<std::int64_t>(c) * rows, hidden, rows) + static_cast<const A*>(branch.b2)[c];
  for_vectors<A>(channels, [&](int i, int count) { store(gates + i, sigmoid(load(gates + i, count)), count); });
  for (int c = 0; c < channels; ++c) {
    const Normalisation<A> norm = normalisation<A>(branch.norm, c, eps);
    const PlaneSums<A>& sums = s.sums[c0 + c];
    grad_logits[c] = gates[c] * (1 - gates[c]) * (norm.weight * sums.grad_normalised + norm.bias * sums.grad);
    add_scaled(grad_hidden, grad_logits[c], w2 + static_cast<std::int64_t>(c) * rows, rows);
  }
  for (int r = 0; r < rows; ++r) {
    if (hidden[r] <= 0) grad_hidden[r] = 0;
    add_scaled(grad_means, grad_hidden[r], w1 + static_cast<std::int64_t>(r) * channels, channels);
  }
}

template <class A>
void weight_gradients(const Branch& branch, const OfBranch<A>& s, int batch) {
  const int channels = branch.channels, rows = branch.hidden;
  A *w1 = static_cast<A*>(branch.grad_w1), *b1 = static_cast<A*>(branch.grad_b1);
  A *w2 = static_cast<A*>(branch.grad_w2), *b2 = static_cast<A*>(branch.grad_b2);
  const std::size_t matrix = sizeof(A) * static_cast<std::size_t>(rows) * channels;
  __builtin_memset(w1, 0, matrix);
  __builtin_memset(w2, 0, matrix);
  __builtin_memset(b1, 0, sizeof(A) * static_cast<std::size_t>(rows));
  __builtin_memset(b2, 0, sizeof(A) * static_cast<std::size_t>(channels));
  for (int n = 0; n < batch; ++n) {
    const std::int64_t c0 = static_cast<std::int64_t>(n) * channels, r0 = static_cast<std::int64_t>(n) * rows;
    for (int r = 0; r < rows; ++r)
      add_scaled(w1 + static_cast<std::int64_t>(r) * channels, s.grad_hidden[r0 + r], s.means + c0, channels);
    for (int c = 0; c < channels; ++c)
      add_scaled(w2 + static_cast<std::int64_t>(c) * rows, s.grad_logits[c0 + c], s.hidden + r0, rows);
    add_scaled(b1, static_cast<A>(1), s.grad_hidden + r0, rows);
    add_scaled(b2, static_cast<A>(1), s.grad_logits + c0, channels);
  }
}

// The norm's gradients, and the coefficients of all planes of a channel.
template <class A>
void finish_channel(const Params& p, const Branch& branch, const OfBranch<A>& s, int c) {
  const Normalisation<A> norm = normalisation<A>(branch.norm, c, p.eps);
  const double pixels = static_cast<double>(branch.height) * branch.width;
  double sum = 0, sum_normalised = 0;
  for (int n = 0; n < p.batch; ++n) {
    const std::int64_t at = static_cast<std::int64_t>(n) * branch.channels + c;
    const PlaneSums<A>& sums = s.sums[at];
    sum += static_cast<double>(s.gates[at]) * sums.grad + s.grad_means[at];
    sum_normalised +=
        static_cast<double>(s.gates[at]) * sums.grad_normalised + s.grad_means[at] * (sums.normalised / pixels);
  }
  if (branch.norm.weight != nullptr) {
    static_cast<A*>(branch.grad_norm_bias)[c] = static_cast<A>(sum);
    static_cast<A*>(branch.grad_norm_weight)[c] = static_cast<A>(sum_normalised);
  }
  const bool passes = p.batch_statistics && branch.norm.weight != nullptr;
  const NormGradient<A> gradient = norm_gradient(norm, sum, sum_normalised, p.batch * pixels, passes);
  for (int n = 0; n < p.batch; ++n) {
    const std::int64_t at = static_cast<std::int64_t>(n) * branch.channels + c;
    A* k = static_cast<A*>(branch.coefficients) + at * kCoefficients;
    k[0] = gradient.factor * s.gates[at];
    k[1] = gradient.slope;
    k[2] = gradient.mean;
    k[3] = gradient.factor * s.grad_means[at] / static_cast<A>(pixels) + gradient.shift;
  }
}

template <class T>
void run(const Params& p, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<A>, Nothing, Params> place(p, team);
  const Shared<A>& shared = place.shared;
  const Slices slices(p.batch, team.threads);
  const auto grad_plane = [](const Branch& branch, int image, int channel) {
    const int number = branch.grad_kept == nullptr ? channel : 2 * channel + 1;
    return static_cast<const T*>(branch.grad_output) + image * branch.grad_output_image_stride +
           number * branch.grad_output_plane_stride;
  };
  const auto x_plane = [](const Branch& branch, int image, int channel) {
    return static_cast<const T*>(branch.x) + image * branch.x_image_stride + channel * branch.x_plane_stride;
  };

  place.for_each(slices.tasks(), [&](int task, const Nothing&) {
    const int image = slices.image(task);
    for (int b = 0; b < p.branches; ++b) {
      const Branch& branch = p.branch[b];
      const int pixels = branch.height * branch.width;
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const T *grad = grad_plane(branch, image, c), *x = x_plane(branch, image, c);
        const Normalisation<A> norm = normalisation<A>(branch.norm, c, p.eps);
        const Vector<A> mean = broadcast(norm.mean);
        Vector<A> s0{}, s1{}, s2{};
        for_vectors<A>(pixels, [&](int i, int count) {
          const Vector<A> g = load(grad + i, count);
          Vector<A> d = load(x + i, count) - mean;
          if (count < kLanes<A>) d = keep_first<A>(d, count);
          s0 += g, s1 = fma(g, d, s1), s2 += d;
        });
        shared.branch[b].sums[static_cast<std::int64_t>(image) * branch.channels + c] = {
            sum_of_lanes(s0), sum_of_lanes(s1) * norm.inverse, sum_of_lanes(s2) * norm.inverse};
        if (branch.grad_kept != nullptr)
          __builtin_memcpy(static_cast<T*>(branch.grad_kept) + image * branch.grad_kept_image_stride +
                               c * branch.grad_kept_plane_stride,
                           grad - branch.grad_output_plane_stride, static_cast<std::size_t>(pixels) * sizeof(T));
      }
    }
  });
  place.for_each(p.batch * p.branches, [&](int task, const Nothing&) {
    const int b = task % p.branches;
    weigh(p.branch[b], shared.branch[b], task / p.branches, p.eps);
  });
  place.for_each(p.branches, [&](int b, const Nothing&) {
    if (p.branch[b].w1 != nullptr) weight_gradients(p.branch[b], shared.branch[b], p.batch);
    for (int c = 0; c < p.branch[b].channels; ++c) finish_channel(p, p.branch[b], shared.branch[b], c);
  });
  if (p.branch[0].grad_x == nullptr) return;

  place.for_each(slices.tasks(), [&](int task, const Nothing&) {
    const int image = slices.image(task);
    for (int b = 0; b < p.branches; ++b) {
      const Branch& branch = p.branch[b];
      const int pixels = branch.height * branch.width;
      for (int c = slices.first(task, branch.channels); c < slices.end(task, branch.channels); ++c) {
        const std::int64_t number = static_cast<std::int64_t>(image) * branch.channels + c;
        const T *grad = grad_plane(branch, image, c), *x = x_plane(branch, image, c);
        T* to = static_cast<T*>(branch.grad_x) + number * pixels;
        const A* k = static_cast<const A*>(branch.coefficients) + number * kCoefficients;
        const Vector<A> k0 = broadcast(k[0]), k1 = broadcast(k[1]), k2 = broadcast(k[2]), k3 = broadcast(k[3]);
        for_vectors<A>(pixels, [&](int i, int count) {
          store(to + i, fma(load(x + i, count) - k2, k1, fma(load(grad + i, count), k0, k3)), count);
        });
      }
    }
  });
}

}  // namespace

std::size_t spatial_weighting_backward_scratch(const Params& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    using A = acc_t<decltype(element)>;
    return scratch_of<Shared<A>, Nothing>(params, threads);
  });
}

void spatial_weighting_backward(const Params& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
