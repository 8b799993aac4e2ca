// GatedDepthwise: y_i = dw(x_i up(gates_i)), and the sums of y_i over tiles of whole rows: the second half of
// conditional channel weighting.
//
// Mapping  task = a plane. Its weighted pixels go into a bordered map (cpu/kernels/depthwise.h), which is filtered into the
//          result; sums are gathered on the way, a vector a tile.
#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/nearest.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class T>
MapShape<acc_t<T>> shape_of(const PlanGatedDepthwiseBranch& branch) {
  return {branch.width, branch.height, 1};
}
LITEHRNET_INLINE int tiles_of(const PlanGatedDepthwiseBranch& branch) {
  return divide_up(branch.height, branch.rows_per_sum);
}

template <class T>
struct Shared {
  Spread<acc_t<T>>* spreads[kMaxBranches];  // of a row
  int* columns;
  Shared(Cutter& cutter, const PlanGatedDepthwiseParams& p) {
    int widest = 0;
    for (int i = 0; i < p.branches; ++i) {
      widest = most(widest, p.branch[i].width);
      spreads[i] = cutter.cut<Spread<acc_t<T>>>(divide_up(p.branch[i].width, kLanes<acc_t<T>>));
    }
    columns = cutter.cut<int>(widest);
  }
};

template <class T>
struct Own {
  acc_t<T>*map, *gates;
  Vector<acc_t<T>>* sums;
  acc_t<T>* positions;
  Own(Cutter& cutter, const PlanGatedDepthwiseParams& p) {
    int elements = 0, widest = 0, tiles = 0, wide = 0;
    for (int i = 0; i < p.branches; ++i) {
      elements = most(elements, shape_of<T>(p.branch[i]).elements());
      widest = most(widest, p.branch[i].width);
      tiles = most(tiles, tiles_of(p.branch[i]));
      wide = most(wide, p.branch[i].gate_width);
    }
    map = cutter.cut<acc_t<T>>(elements);
    gates = cutter.cut<acc_t<T>>(widest);
    sums = cutter.cut<Vector<acc_t<T>>>(tiles);
    positions = cutter.cut<acc_t<T>>(wide);
  }
};

// A row where it is, or converted into `room`.
LITEHRNET_INLINE const float* as_accumulators(const float* row, int, float*) { return row; }
LITEHRNET_INLINE const double* as_accumulators(const double* row, int, double*) { return row; }
template <class T>
LITEHRNET_INLINE const float* as_accumulators(const T* row, int count, float* room) {
  for (int x = 0; x < count; x += kLanes<float>) store(room + x, load(row + x, least(kLanes<float>, count - x)));
  return room;
}

// x up(gates) into the map.
template <bool kRelu, class T>
LITEHRNET_INLINE void fill_weighted(const PlanGatedDepthwiseBranch& branch, const Pixels<T>& pixels, const T* gates,
                                    const Spread<acc_t<T>>* spreads, const Own<T>& own) {
  using A = acc_t<T>;
  constexpr int lanes = kLanes<A>;
  const int height = branch.height, width = branch.width, pitch = shape_of<T>(branch).pitch(), wide = branch.gate_width;
  const int whole = width / lanes * lanes, rest = width - whole;
  const auto in = [](Vector<A> v) { return kRelu ? relu(v) : v; };
  const Vector<A> factor = broadcast(pixels.factor);
  A *row = own.map + pitch + lanes, *weighted = own.gates;
  const T* from = pixels.data;
  if (wide == width && branch.gate_height == height) {  // nothing is upsampled
    for (int y = 0; y < height; ++y, row += pitch, from += width, gates += width) {
      int x = 0;
      for (; x < whole; x += lanes) store(row + x, in(load(from + x)) * (factor * load(gates + x)));
      if (rest > 0) store(row + x, keep_first<A>(in(load(from + x, rest)) * (factor * load(gates + x, rest)), rest));
    }
    return;
  }
  const Nearest position_of(branch.gate_height, height);
  int position = -1;
  for (int y = 0; y < height; ++y, row += pitch, from += width) {
    const int now = position_of(y);
    if (now != position) {
      position = now;
      const A* gate = as_accumulators(gates + position * wide, wide, own.positions);
      for (int x = 0; x < width; x += lanes) store(weighted + x, factor * spreads[x / lanes](gate, wide));
    }
    int x = 0;
    for (; x < whole; x += lanes) store(row + x, in(load(from + x)) * load(weighted + x));
    if (rest > 0) store(row + x, keep_first<A>(in(load(from + x, rest)) * load(weighted + x), rest));
  }
}

// One column of vectors; what it writes behind the end of its rows is written again by the columns that follow.
template <bool kWhole, class T>
LITEHRNET_INLINE void filter_column_of(const PlanGatedDepthwiseBranch& branch, const Own<T>& own,
                                       const FilterWeights<acc_t<T>>& weights, int x, T* to) {
  using A = acc_t<T>;
  constexpr int lanes = kLanes<A>;
  const int width = branch.width, per_sum = branch.rows_per_sum, count = width - x;
  const T* end = to + branch.height * width - lanes;
  T* at = to + x;
  Vector<A> part = zero<A>(), *sum = own.sums;
  int left = per_sum;
  filter_column<1>(own.map + lanes + x, shape_of<T>(branch), weights, [&](int, Vector<A> v) {
    if (kWhole || at <= end)
      store(at, v);
    else
      store(at, v, count);
    at += width;
    part += kWhole ? v : keep_first<A>(v, count);
    if (--left == 0) {
      *sum++ += part;
      part = zero<A>(), left = per_sum;
    }
  });
  if (left != per_sum) *sum += part;
}

template <class T>
__attribute__((noinline)) void filter(const PlanGatedDepthwiseBranch& branch, const Own<T>& own,
                                      const FilterWeights<acc_t<T>>& weights, T* to, acc_t<T>* sums) {
  constexpr int lanes = kLanes<acc_t<T>>;
  const int tiles = tiles_of(branch), whole = branch.width / lanes * lanes;
  for (int t = 0; t < tiles; ++t) own.sums[t] = zero<acc_t<T>>();
  if (whole < branch.width) filter_column_of<false>(branch, own, weights, whole, to);
  for (int x = whole - lanes; x >= 0; x -= lanes) filter_column_of<true>(branch, own, weights, x, to);
  for (int t = 0; t < tiles; ++t) sums[t] = sum_of_lanes(own.sums[t]);
}

template <class T>
void run(const PlanGatedDepthwiseParams& p, int image, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<T>, Own<T>, PlanGatedDepthwiseParams> place(p, team);
  int first_task[kMaxBranches + 1] = {};
  for (int i = 0; i < p.branches; ++i) {
    const PlanGatedDepthwiseBranch& branch = p.branch[i];
    spread_pixels(0, branch.width, 1, branch.width, 1, branch.gate_width, place.shared.columns,
                  place.shared.spreads[i]);
    first_task[i + 1] = first_task[i] + branch.channels;
  }
  const Shared<T>& shared = place.shared;
  place.for_ranges(first_task[p.branches], [&](int first, int end, const Own<T>& own) {
    for (int i = 0; i < p.branches; ++i) {
      const PlanGatedDepthwiseBranch& branch = p.branch[i];
      const int begin = most(first - first_task[i], 0), stop = least(end, first_task[i + 1]) - first_task[i];
      const int tiles = tiles_of(branch);
      if (begin < stop) clear(own.map, shape_of<T>(branch).elements());
      for (int channel = begin; channel < stop; ++channel) {
        const GatedDepthwisePlane& plane = branch.planes[channel];
        const T* gates = static_cast<const T*>(branch.gates) + image * branch.gates_image_stride +
                         static_cast<std::int64_t>(channel) * branch.gate_height * branch.gate_width;
        const Pixels<T> pixels = pixels_of<T>(plane.source, branch.memory, p.batch, image);
        if (pixels.relu)
          fill_weighted<true>(branch, pixels, gates, shared.spreads[i], own);
        else
          fill_weighted<false>(branch, pixels, gates, shared.spreads[i], own);
        filter<T>(branch, own, filter_weights<T>(branch.weight, branch.bias, channel),
                  at<T>(plane.output, branch.memory, p.batch, image),
                  static_cast<A*>(branch.sums) + image * branch.sums_image_stride +
                      static_cast<std::int64_t>(channel) * tiles);
      }
    }
  });
}

}  // namespace

std::size_t plan_gated_depthwise_scratch(const PlanGatedDepthwiseParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_gated_depthwise(const PlanGatedDepthwiseParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
