// HeadConvolution: y = relu(W dw(x + bilinear(below)) + b), or W_f y + b_f where there is a last layer.
//
// Mapping  task = a band of rows. Channel by channel, the rows of `below` that the band lies between are widened, then
//          added to the band's pixels between them on their way into a bordered map (cpu/kernels/depthwise.h), which is
//          filtered into dense rows for the product. With a last layer its result stays in scratch memory for another.
#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/matrix_product.h"
#include "cpu/kernels/nearest.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

constexpr int kPixels = 384;  // of a band, about

template <class T>
struct Geometry {
  using A = acc_t<T>;
  MapShape<A> map;
  int height, width, bands, pitch, wide;  // wide: elements of a widened row
  explicit Geometry(const PlanHeadConvolutionParams& p) : height(p.input.height), width(p.input.width) {
    map = {width, least(height, most(1, kPixels / width)), 1};
    bands = divide_up(height, map.rows);
    pitch = plane_pitch<A>(map.rows * width);
    wide = divide_up(width, kLanes<A>) * kLanes<A>;
  }
};

// The two positions that a pixel lies between, and the weight of the second, with aligned corners.
template <class A>
struct Between {
  int first, second;
  A weight;
};
template <class A>
LITEHRNET_INLINE Between<A> between(int pixel, int positions, int size) {
  const A scale = size > 1 ? static_cast<A>(positions - 1) / static_cast<A>(size - 1) : 0;
  const A place = static_cast<A>(pixel) * scale;
  const int first = least(static_cast<int>(place), positions - 1);
  return {first, least(first + 1, positions - 1), place - static_cast<A>(first)};
}

// The same for a vector of pixels.
template <class A>
struct BetweenColumns {
  Spread<A> first, second;
  Vector<A> weight;
};

template <class T>
struct Shared {
  BetweenColumns<acc_t<T>>* columns;
  acc_t<T>*weights, *final_weights;
  Shared(Cutter& cutter, const PlanHeadConvolutionParams& p) {
    columns = cutter.cut<BetweenColumns<acc_t<T>>>(divide_up(p.input.width, kLanes<acc_t<T>>));
    weights = cutter.cut<acc_t<T>>(room_for_numbers<T>(panel_elements(p.rows, p.input.count)));
    final_weights = cutter.cut<acc_t<T>>(room_for_numbers<T>(panel_elements(p.output.count, p.rows)));
  }
};

template <class T>
struct Own {
  acc_t<T>*map, *filtered, *low, *widened, *hidden;
  Own(Cutter& cutter, const PlanHeadConvolutionParams& p) {
    const Geometry<T> g(p);
    map = cutter.cut<acc_t<T>>(g.map.elements());
    filtered = cutter.cut<acc_t<T>>(static_cast<std::int64_t>(p.input.count) * g.pitch);
    low = cutter.cut<acc_t<T>>(p.below.planes == nullptr ? 0 : p.below.width);
    widened = cutter.cut<acc_t<T>>(p.below.planes == nullptr ? 0 : static_cast<std::int64_t>(p.below.height) * g.wide);
    hidden = cutter.cut<acc_t<T>>(p.final_panels == nullptr ? 0 : static_cast<std::int64_t>(p.rows) * g.pitch);
  }
};

template <class A>
void make_between(int width, int positions, BetweenColumns<A>* columns) {
  constexpr int lanes = kLanes<A>;
  for (int x = 0; x < width; x += lanes) {
    int first[lanes], second[lanes];
    A weight[lanes] = {};
    const int count = least(lanes, width - x);
    for (int lane = 0; lane < count; ++lane) {
      const Between<A> at = between<A>(x + lane, positions, width);
      first[lane] = at.first, second[lane] = at.second, weight[lane] = at.weight;
    }
    columns[x / lanes] = {make_spread<A>(first, count), make_spread<A>(second, count), load(weight)};
  }
}

// Rows first to end - 1 of one plane of `below`, each as wide as the result.
template <class T>
void widen(const PlanHeadConvolutionParams& p, const Geometry<T>& g, int channel, int image, int first, int end,
           const BetweenColumns<acc_t<T>>* columns, const Own<T>& own) {
  using A = acc_t<T>;
  constexpr int lanes = kLanes<A>;
  const Pixels<T> pixels = pixels_of<T>(p.below, channel, image);
  const int width = p.below.width;
  for (int y = first; y < end; ++y) {
    for (int x = 0; x < width; x += lanes) store(own.low + x, pixels.get(y * width + x, least(lanes, width - x)));
    for (int x = 0; x < g.width; x += lanes) {
      const BetweenColumns<A>& at = columns[x / lanes];
      const Vector<A> a = at.first(own.low), b = at.second(own.low);
      store(own.widened + y * g.wide + x, keep_first<A>(fma(at.weight, b - a, a), g.width - x));
    }
  }
}

template <class T>
void filter_band(const PlanHeadConvolutionParams& p, const Geometry<T>& g, int first, int image,
                 const BetweenColumns<acc_t<T>>* columns, const Own<T>& own) {
  using A = acc_t<T>;
  const bool adds = p.below.planes != nullptr;
  int low_first = 0, low_end = 0;
  if (adds) {
    low_first = between<A>(most(first - 1, 0), p.below.height, g.height).first;
    low_end = between<A>(least(first + g.map.rows, g.height - 1), p.below.height, g.height).second + 1;
  }
  clear(own.map, g.map.elements());
  for (int c = 0; c < p.input.count; ++c) {
    const Pixels<T> pixels = pixels_of<T>(p.input, c, image);
    if (adds) {
      widen<T>(p, g, c, image, low_first, low_end, columns, own);
      int row = -1;
      Between<A> at{};
      fill_map(own.map, g.map, first, g.height, g.width, [&](int y, int x, int n) {
        if (y != row) at = between<A>(y, p.below.height, g.height), row = y;
        const Vector<A> a = load(own.widened + at.first * g.wide + x), b = load(own.widened + at.second * g.wide + x);
        return pixels.get(y * g.width + x, n) + fma(broadcast(at.weight), b - a, a);
      });
    } else {
      fill_map(own.map, g.map, first, g.height, g.width,
               [&](int y, int x, int n) { return pixels.get(y * g.width + x, n); });
    }
    filter_map(own.map, g.map, filter_weights<T>(p.filter, p.filter_bias, c),
               own.filtered + static_cast<std::int64_t>(c) * g.pitch);
  }
}

template <class T>
void run(const PlanHeadConvolutionParams& p, int image, const Team& team) {
  using A = acc_t<T>;
  const Geometry<T> g(p);
  Workplace<Shared<T>, Own<T>, PlanHeadConvolutionParams> place(p, team);
  const Shared<T>& shared = place.shared;
  const int channels = p.input.count, last_rows = p.output.count;
  const bool has_last = p.final_panels != nullptr;
  if (p.below.planes != nullptr) make_between(g.width, p.below.width, shared.columns);
  const Panels<A> matrix{
      as_numbers(static_cast<const T*>(p.panels), panel_elements(p.rows, channels), shared.weights), channels, p.rows};
  Panels<A> last{};
  if (has_last)
    last = {as_numbers(static_cast<const T*>(p.final_panels), panel_elements(last_rows, p.rows), shared.final_weights),
            p.rows, last_rows};
  place.for_each(g.bands, [&](int band, const Own<T>& own) {
    const int first = band * g.map.rows, pixels = least(g.map.rows, g.height - first) * g.width;
    filter_band<T>(p, g, first, image, shared.columns, own);
    T* to = written_plane<T>(p.output, 0, image) + static_cast<std::int64_t>(first) * g.width;
    const int stride = p.output.plane_stride, pitch = g.pitch;
    const RegularColumns<A> x{own.filtered, pitch};
    const A* bias = static_cast<const A*>(p.bias);
    if (!has_last)
      return matrix_product(matrix, bias, x, 0, pixels, StoreRegular<true, T>{to, stride});
    matrix_product(matrix, bias, x, 0, pixels, StoreRegular<true, A>{own.hidden, pitch});
    matrix_product(last, static_cast<const A*>(p.final_bias), RegularColumns<A>{own.hidden, pitch}, 0, pixels,
                   StoreRegular<false, T>{to, stride});
  });
}

}  // namespace

std::size_t plan_head_convolution_scratch(const PlanHeadConvolutionParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_head_convolution(const PlanHeadConvolutionParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
