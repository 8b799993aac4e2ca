// FuseDownward: y_k = relu(W concat_j(dw(x_j)) + o_k + sum_{l > k} up(W_l o_l) + b), and relu(W dw(x) + b) for every
// chain that goes on: all that downward chains do from resolution k - 1 to k.
//
// Mapping  tasks = the products of lower resolutions (cpu/kernels/plan_lower_products.h); then bands of rows of the result. Rows of
//          a plane go into bordered maps of even and odd columns (cpu/kernels/depthwise.h) once for all chains that read it,
//          and are filtered into dense rows, one for every column of every product; then the products.
#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/plan_lower_products.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

constexpr int kPixels = 192;  // of a band, about; a multiple of every block

template <class T>
struct Geometry {
  using A = acc_t<T>;
  MapShape<A> map;
  int height, width, bands, pitch;
  int first_column[kMaxStackedProducts + 1];  // of a product among the filtered ones
  explicit Geometry(const PlanFuseDownwardParams& p) : height(p.kept.height), width(p.kept.width) {
    map = {width, least(height, most(1, kPixels / width)), 2};
    bands = divide_up(height, map.rows);
    pitch = plane_pitch<A>(map.rows * width);
    first_column[0] = 0;
    for (int i = 0; i < p.products; ++i) first_column[i + 1] = first_column[i] + p.product[i].input.count;
  }
};

template <class T>
struct Shared {
  LowerMaps<T> lower;
  acc_t<T>* weights[kMaxStackedProducts];
  int* readers;  // [columns of product 0][products]: the column of a product that reads the same plane, or -1
  Shared(Cutter& cutter, const PlanFuseDownwardParams& p) : lower(cutter, p.lower, p.lowers, p.kept.count) {
    for (int i = 0; i < p.products; ++i)
      weights[i] = cutter.cut<acc_t<T>>(
          room_for_numbers<T>(panel_elements(p.product[i].output.count, p.product[i].input.count)));
    readers = cutter.cut<int>(p.product[0].input.count * p.products);
  }
};

template <class T>
struct Own {
  LowerScratch<T> lower;
  acc_t<T>*map, *filtered;
  Spread<acc_t<T>>* spreads[kMaxLowerProducts];  // of the band's pixels
  int* positions;
  Pixels<T>* kept;
  Own(Cutter& cutter, const PlanFuseDownwardParams& p) : lower(cutter, p.lower, p.lowers) {
    const Geometry<T> g(p);
    map = cutter.cut<acc_t<T>>(g.map.elements());
    filtered = cutter.cut<acc_t<T>>(static_cast<std::int64_t>(g.first_column[p.products]) * g.pitch);
    for (int l = 0; l < p.lowers; ++l)
      spreads[l] = cutter.cut<Spread<acc_t<T>>>(divide_up(g.map.rows * g.width, kLanes<acc_t<T>>));
    positions = cutter.cut<int>(g.width);
    kept = cutter.cut<Pixels<T>>(p.kept.count);
  }
};

LITEHRNET_INLINE bool same_plane(const PlaneSource& a, const PlaneSource& b) {
  return __builtin_memcmp(&a, &b, sizeof(PlaneSource)) == 0;
}

// Chains that go on read planes that chains of product 0 read too, as a rule, in the same order: finds them.
void find_readers(const PlanFuseDownwardParams& p, int* readers, bool* found) {
  const PlaneSources& total = p.product[0].input;
  for (int c = 0; c < total.count; ++c) {
    for (int i = 0; i < p.products; ++i) readers[c * p.products + i] = -1;
    readers[c * p.products] = c;
  }
  found[0] = true;
  for (int i = 1; i < p.products; ++i) {
    const PlaneSources& input = p.product[i].input;
    int first = 0;
    while (first + input.count <= total.count && !same_plane(total.planes[first], input.planes[0])) ++first;
    found[i] = input.memory == total.memory && first + input.count <= total.count;
    for (int c = 1; c < input.count && found[i]; ++c) found[i] = same_plane(total.planes[first + c], input.planes[c]);
    for (int c = 0; c < input.count && found[i]; ++c) readers[(first + c) * p.products + i] = c;
  }
}

template <class T>
void fill(const Geometry<T>& g, const PlaneSources& input, int number, int band, int image, acc_t<T>* map) {
  const Pixels<T> pixels = pixels_of<T>(input, number, image);
  const int width = input.width;
  const T* data = pixels.data;
  if (pixels.pending)
    fill_map(map, g.map, band * g.map.rows, input.height, width,
             [&](int y, int x, int n) { return pixels.get(y * width + x, n); });
  else
    fill_map(map, g.map, band * g.map.rows, input.height, width,
             [=](int y, int x, int n) { return load(data + y * width + x, n); });
}

// Product 0 with all that is added to it.
template <class T, bool kMore>
void multiply_total(const PlanFuseDownwardParams& p, const Geometry<T>& g, const Panels<acc_t<T>>& matrix,
                    const LowerMaps<T>& lower, int maps, int first, int pixels, int image, const Own<T>& own) {
  using A = acc_t<T>;
  for (int row = 0; row < p.kept.count; ++row) {
    own.kept[row] = pixels_of<T>(p.kept, row, image);
    own.kept[row].data += first;
  }
  T* to = written_plane<T>(p.product[0].output, 0, image) + first;
  const int stride = p.product[0].output.plane_stride;
  const Pixels<T>* kept = own.kept;
  const LowerMaps<T>* low = &lower;
  Spread<A>* const* spreads = own.spreads;
  const A* map = maps > 0 ? lower.maps[0] : nullptr;
  const Spread<A>* spread = maps > 0 ? own.spreads[0] : nullptr;
  const int pitch = maps > 0 ? lower.pitch[0] : 0;
  matrix_product(matrix, static_cast<const A*>(p.product[0].bias), RegularColumns<A>{own.filtered, g.pitch}, 0, pixels,
                 [=](int row) {
                   const Pixels<T> also = kept[row];
                   T* plane = to + row * stride;
                   const A* from = map + row * pitch;
                   return [=](int pixel, Vector<A> v, int n) {
                     v += also.get(pixel, n);
                     if constexpr (kMore) {
                       for (int l = 0; l < maps; ++l)
                         v += spreads[l][pixel / kLanes<A>](low->maps[l] + row * low->pitch[l]);
                     } else {
                       v += spread[pixel / kLanes<A>](from);
                     }
                     store(plane + pixel, relu(v), n);
                   };
                 });
}

template <class T>
void run(const PlanFuseDownwardParams& p, int image, const Team& team) {
  using A = acc_t<T>;
  const Geometry<T> g(p);
  Workplace<Shared<T>, Own<T>, PlanFuseDownwardParams> place(p, team);
  const Shared<T>& shared = place.shared;
  const bool chained = are_chained(p.lower, p.lowers, g.height, g.width);
  const int maps = chained ? least(p.lowers, 1) : p.lowers;
  multiply_lower<T>(place, p.lower, p.lowers, p.kept.count, chained, image, nullptr, shared.lower);
  Panels<A> matrix[kMaxStackedProducts];
  for (int i = 0; i < p.products; ++i) {
    const int rows = p.product[i].output.count, columns = p.product[i].input.count;
    matrix[i] = {as_numbers(static_cast<const T*>(p.product[i].panels), panel_elements(rows, columns),
                            shared.weights[i]),
                 columns, rows};
  }
  bool found[kMaxStackedProducts];
  find_readers(p, shared.readers, found);
  place.for_each(g.bands, [&](int band, const Own<T>& own) {
    const int first_row = band * g.map.rows, first = first_row * g.width;
    const int pixels = least(g.map.rows, g.height - first_row) * g.width;
    clear(own.map, g.map.elements());
    const auto filter = [&](int product, int column) {
      const PlanStackedProduct& of = p.product[product];
      filter_map(own.map, g.map, filter_weights<T>(of.filter, of.filter_bias, column),
                 own.filtered + static_cast<std::int64_t>(g.first_column[product] + column) * g.pitch);
    };
    for (int c = 0; c < p.product[0].input.count; ++c) {
      fill<T>(g, p.product[0].input, c, band, image, own.map);
      for (int i = 0; i < p.products; ++i)
        if (shared.readers[c * p.products + i] >= 0) filter(i, shared.readers[c * p.products + i]);
    }
    for (int i = 1; i < p.products; ++i) {
      if (found[i]) continue;
      for (int c = 0; c < p.product[i].input.count; ++c) {
        fill<T>(g, p.product[i].input, c, band, image, own.map);
        filter(i, c);
      }
    }
    for (int l = 0; l < maps; ++l)
      spread_pixels(first, first + pixels, g.height, g.width, p.lower[l].input.height, p.lower[l].input.width,
                    own.positions, own.spreads[l]);
    if (maps == 1)
      multiply_total<T, false>(p, g, matrix[0], shared.lower, maps, first, pixels, image, own);
    else
      multiply_total<T, true>(p, g, matrix[0], shared.lower, maps, first, pixels, image, own);
    for (int i = 1; i < p.products; ++i) {
      T* to = written_plane<T>(p.product[i].output, 0, image) + first;
      const int stride = p.product[i].output.plane_stride;
      const A* filtered = own.filtered + static_cast<std::int64_t>(g.first_column[i]) * g.pitch;
      matrix_product(matrix[i], static_cast<const A*>(p.product[i].bias), RegularColumns<A>{filtered, g.pitch}, 0,
                     pixels, StoreRegular<true, T>{to, stride});
    }
  });
}

}  // namespace

std::size_t plan_fuse_downward_scratch(const PlanFuseDownwardParams& p, DType dtype, int threads) {
  return visit_type(dtype, [&](auto type) {
    using T = decltype(type);
    return scratch_of<Shared<T>, Own<T>>(p, threads);
  });
}

void plan_fuse_downward(const PlanFuseDownwardParams& p, DType dtype, int image, const Team& team) {
  visit_type(dtype, [&](auto type) { run<decltype(type)>(p, image, team); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
