// FuseUpward: s = 2 o_0 + sum_j up(W_j o_j) + b, the sum at the highest resolution. Pending gates are evaluated first.
//
// Mapping  tasks = gates; the products of lower resolutions (cpu/kernels/plan_lower_products.h); then planes of s.
#include "cpu/kernels/plan_lower_products.h"
#include "cpu/kernels/pending_gates.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class T>
struct Shared {
  acc_t<T>* factors;
  LowerMaps<T> lower;
  Spread<acc_t<T>>* spreads[kMaxLowerProducts];  // of a row
  int* columns;
  Shared(Cutter& cutter, const PlanFuseUpwardParams& p)
      : factors(cutter.cut<acc_t<T>>(gate_factors(p.gate, p.gates))), lower(cutter, p.lower, p.lowers, p.top.count) {
    for (int l = 0; l < p.lowers; ++l)
      spreads[l] = cutter.cut<Spread<acc_t<T>>>(divide_up(p.top.width, kLanes<acc_t<T>>));
    columns = cutter.cut<int>(p.top.width);
  }
};

template <class T>
struct Own {
  acc_t<T>* gate;
  LowerScratch<T> lower;
  Own(Cutter& cutter, const PlanFuseUpwardParams& p)
      : gate(cutter.cut<acc_t<T>>(gate_scratch(p.gate, p.gates))), lower(cutter, p.lower, p.lowers) {}
};

// One plane, to which one map is added or, with kMore, a number of them.
template <class T, bool kMore>
__attribute__((noinline)) void add_up(const PlanFuseUpwardParams& p, const Shared<T>& shared, int maps, int row,
                                      const Pixels<T>& pixels, acc_t<T> bias, T* to, T* also) {
  using A = acc_t<T>;
  constexpr int lanes = kLanes<A>;
  const int height = p.top.height, width = p.top.width, whole = width / lanes * lanes, rest = width - whole;
  const Vector<A> start = broadcast(bias), twice = broadcast(2 * pixels.factor);
  const bool first_relu = pixels.relu, last_relu = p.relu != 0;
  const T* data = pixels.data;
  const A* low[kMaxLowerProducts] = {};
  const Spread<A>* spreads[kMaxLowerProducts] = {};
  for (int l = 0; l < maps; ++l) {
    low[l] = shared.lower.maps[l] + static_cast<std::int64_t>(row) * shared.lower.pitch[l];
    spreads[l] = shared.spreads[l];
  }
  const auto add = [&](int y, int x, int at, int count) LITEHRNET_ALWAYS_INLINE {
    Vector<A> sum = start, v = load(data + at, count);
    if constexpr (kMore) {
      for (int l = 0; l < maps; ++l) {
        const PlaneSources& input = p.lower[l].input;
        sum += spreads[l][x / lanes](low[l] + Nearest(input.height, height)(y) * input.width);
      }
    } else {
      sum += spreads[0][x / lanes](low[0]);
    }
    if (first_relu) v = relu(v);
    v = fma(v, twice, sum);
    store(to + at, last_relu ? relu(v) : v, count);
    if (also != nullptr) store(also + at, relu(v), count);
  };
  const PlaneSources& below = p.lower[0].input;
  const Nearest position(kMore ? 1 : below.height, height);
  const A* map = low[0];
  for (int y = 0; y < height; ++y) {
    if constexpr (!kMore) low[0] = map + position(y) * below.width;
    for (int x = 0; x < whole; x += lanes) add(y, x, y * width + x, lanes);
    if (rest > 0) add(y, whole, y * width + whole, rest);
  }
}

template <class T>
void run(const PlanFuseUpwardParams& p, int image, const Team& team) {
  Workplace<Shared<T>, Own<T>, PlanFuseUpwardParams> place(p, team);
  const Shared<T>& shared = place.shared;
  const int rows = p.top.count;
  evaluate_gates<T>(place, p.gate, p.gates, image, shared.factors, [](const Own<T>& own) { return own.gate; });
  const bool chained = are_chained(p.lower, p.lowers, p.top.height, p.top.width);
  const int maps = chained ? least(p.lowers, 1) : p.lowers;
  multiply_lower<T>(place, p.lower, p.lowers, rows, chained, image, shared.factors, shared.lower);
  for (int l = 0; l < maps; ++l)
    spread_pixels(0, p.top.width, 1, p.top.width, 1, p.lower[l].input.width, shared.columns, shared.spreads[l]);
  place.for_each(rows, [&](int row, const Own<T>&) {
    const Pixels<T> pixels = pixels_of<T>(p.top, row, image, p.top_gated, shared.factors);
    T* to = written_plane<T>(p.output, row, image);
    T* also = p.also.data == nullptr ? nullptr : written_plane<T>(p.also, row, image);
    const acc_t<T> bias = static_cast<const acc_t<T>*>(p.bias)[row];
    if (maps == 1)
      add_up<T, false>(p, shared, maps, row, pixels, bias, to, also);
    else
      add_up<T, true>(p, shared, maps, row, pixels, bias, to, also);
  });
}

}  // namespace

std::size_t plan_fuse_upward_scratch(const PlanFuseUpwardParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_fuse_upward(const PlanFuseUpwardParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
