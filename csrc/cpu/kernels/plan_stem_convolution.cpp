// StemConvolution: y = relu(W * x + b), a full 3x3 convolution with stride 2.
//
// Mapping  task = a band of rows of the result. Rows of the image are cut into even and odd columns, so that the nine
//          neighbours of neighbouring pixels lie side by side; then every row is a matrix product, 9 columns a channel.
#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/matrix_product.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

constexpr int kRows = 4;  // of a band: its rows of the image fit into L1

template <class T>
struct Geometry {
  using A = acc_t<T>;
  MapShape<A> map;
  int channels, rows, columns, height, bands;

  explicit Geometry(const PlanStemParams& p)
      : map{p.output.width, kRows, 2},
        channels(p.input.count),
        rows(p.output.count),
        columns(9 * p.input.count),
        height(p.output.height),
        bands(divide_up(p.output.height, kRows)) {}
};

template <class T>
struct Shared {
  acc_t<T>* weights;
  Shared(Cutter& cutter, const PlanStemParams& p)
      : weights(cutter.cut<acc_t<T>>(room_for_numbers<T>(panel_elements(p.output.count, 9 * p.input.count)))) {}
};

template <class T>
struct Own {
  acc_t<T>* maps;
  const acc_t<T>** columns;
  T** outputs;
  Own(Cutter& cutter, const PlanStemParams& p) {
    const Geometry<T> g(p);
    maps = cutter.cut<acc_t<T>>(static_cast<std::int64_t>(g.channels) * g.map.elements());
    columns = cutter.cut<const acc_t<T>*>(g.columns);
    outputs = cutter.cut<T*>(g.rows);
  }
};

template <class T>
void run(const PlanStemParams& p, int image, const Team& team) {
  using A = acc_t<T>;
  const Geometry<T> g(p);
  Workplace<Shared<T>, Own<T>, PlanStemParams> place(p, team);
  const Panels<A> matrix{as_numbers(static_cast<const T*>(p.weight), panel_elements(g.rows, g.columns),
                                    place.shared.weights),
                         g.columns, g.rows};
  place.for_each(g.bands, [&](int band, const Own<T>& own) {
    const int first = band * kRows, count = least(kRows, g.height - first);
    clear(own.maps, g.channels * g.map.elements());
    for (int c = 0; c < g.channels; ++c) {
      const Pixels<T> pixels = pixels_of<T>(p.input, c, image);
      fill_map(own.maps + c * g.map.elements(), g.map, first, p.input.height, p.input.width,
               [&](int y, int x, int n) { return pixels.get(y * p.input.width + x, n); });
    }
    for (int row = 0; row < g.rows; ++row) own.outputs[row] = written_plane<T>(p.output, row, image);
    for (int y = 0; y < count; ++y) {
      for (int i = 0; i < g.columns; ++i) {
        const int c = i / 9, tap_y = i / 3 % 3, tap_x = i % 3;
        const A* row = own.maps + c * g.map.elements() + (2 * y + tap_y) * g.map.pitch() + kLanes<A>;
        own.columns[i] = tap_x == 1 ? row : row + g.map.part() - (tap_x == 0 ? 1 : 0);
      }
      matrix_product(matrix, static_cast<const A*>(p.bias), ScatteredColumns<A>{own.columns}, 0, p.output.width,
                     StoreScattered<true, T>{own.outputs, (first + y) * p.output.width});
    }
  });
}

}  // namespace

std::size_t plan_stem_convolution_scratch(const PlanStemParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_stem_convolution(const PlanStemParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
