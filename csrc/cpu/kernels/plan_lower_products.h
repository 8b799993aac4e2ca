// Paths from lower resolutions into a sum: W x of every lower resolution, as maps of that resolution. Who adds them up
// spreads them over pixels (cpu/kernels/nearest.h).
//
// Where upsampling by way of the resolutions between gives the same pixels as at once, every map includes the ones
// below it, so that only one has to be spread in the end; else each stands for itself.
#pragma once

#include "cpu/kernels/matrix_product.h"
#include "cpu/kernels/nearest.h"
#include "params/plan_lower_products.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

// Pixels of a task.
template <class A>
constexpr int kLowerPixels = 2 * kBlock<A>;

// The maps, in memory that all tasks see.
template <class T>
struct LowerMaps {
  using A = acc_t<T>;
  A *maps[kMaxLowerProducts], *weights[kMaxLowerProducts], *factors;
  int pitch[kMaxLowerProducts];
  LowerMaps(Cutter& cutter, const PlanLowerProduct* lower, int lowers, int rows) {
    int widest = 0;
    for (int l = 0; l < lowers; ++l) {
      const PlaneSources& input = lower[l].input;
      pitch[l] = plane_pitch<A>(input.height * input.width);
      maps[l] = cutter.cut<A>(static_cast<std::int64_t>(rows) * pitch[l]);
      weights[l] = cutter.cut<A>(panel_elements(rows, input.count));
      widest = most(widest, input.count);
    }
    factors = cutter.cut<A>(static_cast<std::int64_t>(widest) * kPanelRows);
  }
};

// What a task needs beside those.
template <class T>
struct LowerScratch {
  using A = acc_t<T>;
  const A** columns;
  A* copies;
  Spread<A>* spreads;
  int *positions, pitch;
  LowerScratch(Cutter& cutter, const PlanLowerProduct* lower, int lowers) : pitch(plane_pitch<A>(kLowerPixels<A>)) {
    int widest = 0, wide = 0;
    for (int l = 0; l < lowers; ++l) {
      widest = most(widest, lower[l].input.count);
      wide = most(wide, lower[l].input.width);
    }
    columns = cutter.cut<const A*>(widest);
    copies = cutter.cut<A>(static_cast<std::int64_t>(widest) * pitch);
    spreads = cutter.cut<Spread<A>>(kLowerPixels<A> / kLanes<A>);
    positions = cutter.cut<int>(wide);
  }
};

// Whether maps include those below them, for sums of height x width.
LITEHRNET_INLINE bool are_chained(const PlanLowerProduct* lower, int lowers, int height, int width) {
  for (int l = 1; l < lowers; ++l) {
    const PlaneSources &below = lower[l].input, &above = lower[l - 1].input;
    const int size_y = l == 1 ? height : lower[l - 2].input.height, size_x = l == 1 ? width : lower[l - 2].input.width;
    if (!chains(below.height, above.height, size_y) || !chains(below.width, above.width, size_x)) return false;
    if (l > 1 && (!chains(below.height, lower[0].input.height, height) ||
                  !chains(below.width, lower[0].input.width, width)))
      return false;
  }
  return true;
}

// Pixels of a plane without its factor, which is in the weights.
template <class T>
LITEHRNET_INLINE Pixels<T> without_factor(Pixels<T> pixels) {
  pixels.factor = 1;
  pixels.pending = pixels.relu;
  return pixels;
}

// The panels of a product times the factors that are pending on its columns: far fewer numbers than there are pixels.
template <class T>
Panels<acc_t<T>> scaled_panels(const PlanLowerProduct& product, int rows, int image, const acc_t<T>* own_factors,
                               acc_t<T>* factors, acc_t<T>* to) {
  using A = acc_t<T>;
  const int columns = product.input.count, per_panel = columns * kPanelRows;
  for (int k = 0; k < columns; ++k) {
    const A factor = pixels_of<T>(product.input, k, image, product.gated, own_factors).factor;
    for (int i = 0; i < kPanelRows; ++i) factors[k * kPanelRows + i] = factor;
  }
  const T* from = static_cast<const T*>(product.panels);
  A* panel = to;
  for (int row = 0; row < rows; row += kPanelRows, from += per_panel, panel += per_panel)
    for (int i = 0; i < per_panel; i += kLanes<A>) {
      const int count = least(kLanes<A>, per_panel - i);
      store(panel + i, load(from + i, count) * load(factors + i, count), count);
    }
  return {to, columns, rows};
}

// Fills the maps from below to above; `factors` are the step's own. Own has a LowerScratch `lower`.
template <class T, class Place>
void multiply_lower(Place& place, const PlanLowerProduct* lower, int lowers, int rows, bool chained, int image,
                    const acc_t<T>* factors, const LowerMaps<T>& to) {
  using A = acc_t<T>;
  for (int l = lowers - 1; l >= 0; --l) {
    const PlanLowerProduct& product = lower[l];
    const PlaneSources& input = product.input;
    const int columns = input.count, pixels = input.height * input.width, pitch = to.pitch[l];
    const Panels<A> matrix = scaled_panels<T>(product, rows, image, factors, to.factors, to.weights[l]);
    const bool adds = chained && l + 1 < lowers;
    A* map = to.maps[l];
    const A* below = adds ? to.maps[l + 1] : nullptr;
    const int below_pitch = adds ? to.pitch[l + 1] : 0;
    place.for_each(divide_up(pixels, kLowerPixels<A>), [&](int task, const auto& own) {
      const int first = task * kLowerPixels<A>, end = least(first + kLowerPixels<A>, pixels);
      const LowerScratch<T>& scratch = own.lower;
      gather_columns<T>(
          columns, [&](int k) { return without_factor(pixels_of<T>(input, k, image)); }, first, end,
          scratch.columns, scratch.copies, scratch.pitch);
      const ScatteredColumns<A> x{scratch.columns};
      if (!adds) {
        matrix_product(matrix, static_cast<const A*>(nullptr), x, first, end, StoreRegular<false, A>{map, pitch});
        return;
      }
      const PlaneSources& under = lower[l + 1].input;
      spread_pixels(first, end, input.height, input.width, under.height, under.width, scratch.positions,
                    scratch.spreads);
      const Spread<A>* spreads = scratch.spreads;
      matrix_product(matrix, static_cast<const A*>(nullptr), x, first, end,
                     [=](int row) {
                       A* to_row = map + row * pitch;
                       const A* from = below + row * below_pitch;
                       return [=](int pixel, Vector<A> v, int n) {
                         store(to_row + pixel, v + spreads[(pixel - first) / kLanes<A>](from), n);
                       };
                     });
    });
  }
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
