// PointwiseConvolution: y = W x + b, and perhaps a ReLU: independent 1x1 convolutions.
//
// Mapping  task = a path's band of pixels. Planes on which something is pending are copied first, the band alone.
#include "cpu/kernels/matrix_product.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

constexpr int kPixels = 384;  // of a band; a multiple of every block
static_assert(kPixels % kBlock<float> == 0 && kPixels % kBlock<double> == 0, "whole blocks");

LITEHRNET_INLINE int pixels_of_path(const PlanPointwisePath& path) { return path.output.height * path.output.width; }

template <class T>
struct Shared {
  acc_t<T>* weights[kMaxPointwisePaths];
  Shared(Cutter& cutter, const PlanPointwiseParams& p) {
    for (int i = 0; i < p.paths; ++i) {
      const PlanPointwisePath& path = p.path[i];
      weights[i] =
          cutter.cut<acc_t<T>>(room_for_numbers<T>(panel_elements(path.output.count, path.input.count)));
    }
  }
};

template <class T>
struct Own {
  const acc_t<T>** columns;
  acc_t<T>* copies;
  T** outputs;
  int pitch;
  Own(Cutter& cutter, const PlanPointwiseParams& p) : pitch(plane_pitch<acc_t<T>>(kPixels)) {
    int widest = 0, rows = 0;
    for (int i = 0; i < p.paths; ++i) {
      widest = most(widest, p.path[i].input.count);
      rows = most(rows, p.path[i].output.count);
    }
    columns = cutter.cut<const acc_t<T>*>(widest);
    copies = cutter.cut<acc_t<T>>(static_cast<std::int64_t>(widest) * pitch);
    outputs = cutter.cut<T*>(rows);
  }
};

template <class T>
void run(const PlanPointwiseParams& p, int image, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<T>, Own<T>, PlanPointwiseParams> place(p, team);
  Panels<A> matrix[kMaxPointwisePaths];
  int first_task[kMaxPointwisePaths + 1] = {};
  for (int i = 0; i < p.paths; ++i) {
    const PlanPointwisePath& path = p.path[i];
    const int rows = path.output.count, columns = path.input.count;
    matrix[i] = {as_numbers(static_cast<const T*>(path.weight), panel_elements(rows, columns), place.shared.weights[i]),
                 columns, rows};
    first_task[i + 1] = first_task[i] + divide_up(pixels_of_path(path), kPixels);
  }
  place.for_each(first_task[p.paths], [&](int task, const Own<T>& own) {
    int i = 0;
    while (task >= first_task[i + 1]) ++i;
    const PlanPointwisePath& path = p.path[i];
    const int first = (task - first_task[i]) * kPixels, end = least(first + kPixels, pixels_of_path(path));
    gather_columns<T>(
        path.input.count, [&](int k) { return pixels_of<T>(path.input, k, image); }, first, end, own.columns,
        own.copies, own.pitch);
    for (int row = 0; row < path.output.count; ++row) own.outputs[row] = written_plane<T>(path.output, row, image);
    const A* bias = static_cast<const A*>(path.bias);
    const ScatteredColumns<A> x{own.columns};
    if (path.relu != 0)
      matrix_product(matrix[i], bias, x, first, end, StoreScattered<true, T>{own.outputs, 0});
    else
      matrix_product(matrix[i], bias, x, first, end, StoreScattered<false, T>{own.outputs, 0});
  });
}

}  // namespace

std::size_t plan_pointwise_convolution_scratch(const PlanPointwiseParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_pointwise_convolution(const PlanPointwiseParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
