// ResolutionGates: gates = sigmoid(W2 relu(W1 p + b1) + b2), p = concat_i pool(x_i): the first half of conditional
// channel weighting. Pending gates of the block before are evaluated first.
//
// Mapping  tasks = gates; then planes, each of which is pooled: rows of a window are added up, then columns; then
//          blocks of positions, whose hidden values stay in L1.
#include "cpu/kernels/matrix_product.h"
#include "cpu/kernels/pending_gates.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class A>
constexpr int kPositions = 2 * kBlock<A>;  // of a task

LITEHRNET_INLINE int sources_of(const PlanResolutionGatesParams& p) {
  int result = 0;
  for (int i = 0; i < p.branches; ++i) result += p.branch[i].count;
  return result;
}

template <class T>
struct Shared {
  acc_t<T>*pooled, *factors, *source_factors, *w1, *w2;
  int pitch, hidden_pitch;
  Shared(Cutter& cutter, const PlanResolutionGatesParams& p) {
    const int sources = sources_of(p);
    pitch = plane_pitch<acc_t<T>>(p.output.height * p.output.width);
    hidden_pitch = divide_up(p.hidden, kGatePad) * kGatePad;
    pooled = cutter.cut<acc_t<T>>(static_cast<std::int64_t>(sources) * pitch);
    factors = cutter.cut<acc_t<T>>(gate_factors(p.gate, p.gates));
    source_factors = cutter.cut<acc_t<T>>(sources);
    w1 = cutter.cut<acc_t<T>>(room_for_numbers<T>(static_cast<std::int64_t>(p.hidden) * sources));
    w2 = cutter.cut<acc_t<T>>(room_for_numbers<T>(static_cast<std::int64_t>(sources) * hidden_pitch));
  }
};

template <class T>
struct Own {
  acc_t<T>*row, *hidden, *gate;
  Own(Cutter& cutter, const PlanResolutionGatesParams& p) {
    int widest = 0;
    for (int i = 0; i < p.branches; ++i) widest = most(widest, p.branch[i].width);
    row = cutter.cut<acc_t<T>>(widest);
    hidden = cutter.cut<acc_t<T>>(static_cast<std::int64_t>(p.hidden) * kPositions<acc_t<T>>);
    gate = cutter.cut<acc_t<T>>(gate_scratch(p.gate, p.gates));
  }
};

// What adaptive_avg_pool averages for a position, as core/resample.h defines it.
struct Range {
  int begin, end;
};
LITEHRNET_INLINE Range pooled_range(int position, int positions, int size) {
  return {static_cast<int>(static_cast<std::int64_t>(position) * size / positions),
          static_cast<int>((static_cast<std::int64_t>(position + 1) * size + positions - 1) / positions)};
}

// Neighbouring pairs of a row of 2 n, added up, in place.
template <class A>
LITEHRNET_INLINE void add_pairs(A* row, int n) {
  for (int x = 0; x < n; x += kLanes<A>) {
    const Vector<A> a = load(row + 2 * x), b = load(row + 2 * x + kLanes<A>);
    store(row + x, even_lanes<A>(a, b) + odd_lanes<A>(a, b));
  }
}

// One plane to h x w; `row` has room for a row of it, and two vectors.
template <bool kRelu, class T>
__attribute__((noinline)) void pool(const T* data, int height, int width, int h, int w, acc_t<T> factor,
                                    acc_t<T>* row, acc_t<T>* to) {
  using A = acc_t<T>;
  constexpr int lanes = kLanes<A>;
  const auto in = [](Vector<A> v) { return kRelu ? relu(v) : v; };
  const int whole = width / lanes * lanes, rest = width - whole;
  if (h == height && w == width) {
    const Vector<A> scale = broadcast(factor);
    for (int pixel = 0; pixel < h * w; pixel += lanes)
      store(to + pixel, in(load(data + pixel, least(lanes, h * w - pixel))) * scale);
    return;
  }
  const int ratio = width / w;
  const bool halves = width % w == 0 && (ratio & (ratio - 1)) == 0;
  for (int i = 0; i < h; ++i) {
    const Range rows = pooled_range(i, h, height);
    const T* top = data + static_cast<std::int64_t>(rows.begin) * width;
    const int count = rows.end - rows.begin;
    for (int x = 0; x < whole; x += lanes) {
      const T* from = top + x;
      Vector<A> sum = in(load(from));
      for (int y = 1; y < count; ++y) sum += in(load(from += width));
      store(row + x, sum);
    }
    if (rest > 0) {
      const T* from = top + whole;
      Vector<A> sum = in(load(from, rest));
      for (int y = 1; y < count; ++y) sum += in(load(from += width, rest));
      store(row + whole, sum);
    }
    if (halves) {
      for (int n = width / 2; n >= w; n /= 2) add_pairs(row, n);
      const Vector<A> scale = broadcast(factor / static_cast<A>((rows.end - rows.begin) * ratio));
      for (int x = 0; x < w; x += lanes) store(to + i * w + x, load(row + x) * scale);
      continue;
    }
    for (int j = 0; j < w; ++j) {
      const Range columns = pooled_range(j, w, width);
      A sum = 0;
      for (int x = columns.begin; x < columns.end; ++x) sum += row[x];
      to[i * w + j] = sum * factor / static_cast<A>((rows.end - rows.begin) * (columns.end - columns.begin));
    }
  }
}

template <class T>
void run(const PlanResolutionGatesParams& p, int image, const Team& team) {
  using A = acc_t<T>;
  Workplace<Shared<T>, Own<T>, PlanResolutionGatesParams> place(p, team);
  const Shared<T>& shared = place.shared;
  const int sources = sources_of(p), height = p.output.height, width = p.output.width, positions = height * width;
  evaluate_gates<T>(place, p.gate, p.gates, image, shared.factors, [](const Own<T>& own) { return own.gate; });
  for (int k = 0; k < sources; ++k) shared.source_factors[k] = 1;
  for (int i = 0; i < p.needed; ++i) shared.source_factors[p.gated[2 * i + 1]] = shared.factors[p.gated[2 * i]];

  place.for_ranges(sources, [&](int first, int end, const Own<T>& own) {
    int branch = 0, number = first;
    for (int source = first; source < end; ++source, ++number) {
      while (number >= p.branch[branch].count) number -= p.branch[branch++].count;
      const PlaneSources& planes = p.branch[branch];
      const Pixels<T> pixels = pixels_of<T>(planes, number, image);
      const A factor = pixels.factor * shared.source_factors[source];
      A* to = shared.pooled + static_cast<std::int64_t>(source) * shared.pitch;
      if (pixels.relu)
        pool<true>(pixels.data, planes.height, planes.width, height, width, factor, own.row, to);
      else
        pool<false>(pixels.data, planes.height, planes.width, height, width, factor, own.row, to);
    }
  });

  const Rows<A> first{as_numbers(static_cast<const T*>(p.w1), static_cast<std::int64_t>(p.hidden) * sources, shared.w1),
                      sources, p.hidden, sources};
  const Rows<A> second{
      as_numbers(static_cast<const T*>(p.w2), static_cast<std::int64_t>(sources) * shared.hidden_pitch, shared.w2),
      p.hidden, sources, shared.hidden_pitch};
  T* output = written_plane<T>(p.output, 0, image);
  const int plane_stride = p.output.plane_stride;
  place.for_each(divide_up(positions, kPositions<A>), [&](int task, const Own<T>& own) {
    const int begin = task * kPositions<A>, end = least(begin + kPositions<A>, positions);
    A* hidden = own.hidden;
    matrix_product(first, static_cast<const A*>(p.b1), RegularColumns<A>{shared.pooled + begin, shared.pitch}, 0,
                   end - begin, StoreRegular<true, A>{hidden, kPositions<A>});
    T* to = output + begin;
    matrix_product(second, static_cast<const A*>(p.b2), RegularColumns<A>{hidden, kPositions<A>}, 0, end - begin,
                   [=](int row) {
                     T* plane = to + row * plane_stride;
                     return [=](int pixel, Vector<A> v, int n) { store(plane + pixel, sigmoid(v), n); };
                   });
  });
}

}  // namespace

std::size_t plan_resolution_gates_scratch(const PlanResolutionGatesParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_resolution_gates(const PlanResolutionGatesParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
