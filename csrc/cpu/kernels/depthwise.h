// Depthwise 3x3 convolutions of one plane, padded with zeros, by way of scratch maps with a border of zeros.
//
// Layout   a map has a vector of zeros left of every row, which also closes the row above, and rows of whole vectors,
//          zero behind the last pixel. A map for rows y to y + n - 1 of the result holds the pixels' rows y - 1 to
//          y + n; with stride 2 rows 2 y - 1 to 2 (y + n) - 1, even columns in one map, odd ones in another one.
//          Borders are zeroed once for as many planes as follow, and never written.
// Mapping  slides down a column of vectors: three loads and nine products a vector with stride 1, six and nine with
//          stride 2. Columns of vectors go from right to left, rows down: what a vector writes behind the end of its
//          row is written again with what belongs there.
#pragma once

#include "cpu/kernels/source_planes.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

// Taps row by row, and the bias.
template <class A>
struct FilterWeights {
  A tap[9], bias;
};
template <class T>
LITEHRNET_INLINE FilterWeights<acc_t<T>> filter_weights(const void* weights, const void* biases, int channel) {
  FilterWeights<acc_t<T>> result;
  const T* from = static_cast<const T*>(weights) + static_cast<std::int64_t>(channel) * 9;
  for (int i = 0; i < 9; ++i) result.tap[i] = as_number(from[i]);
  result.bias = static_cast<const acc_t<T>*>(biases)[channel];
  return result;
}

// Shape of a map for `rows` rows of `width` results.
template <class A>
struct MapShape {
  int width, rows, stride;  // of the result

  LITEHRNET_INLINE int pitch() const { return kLanes<A> + divide_up(width, kLanes<A>) * kLanes<A>; }
  LITEHRNET_INLINE int map_rows() const { return stride == 1 ? rows + 2 : 2 * rows + 1; }
  // Elements of one map, of one with odd columns where there is a stride, and of both.
  LITEHRNET_INLINE int part() const { return map_rows() * pitch() + kLanes<A>; }
  LITEHRNET_INLINE int elements() const { return stride == 1 ? part() : 2 * part(); }
};

template <class A>
LITEHRNET_INLINE void clear(A* map, int elements) {
  __builtin_memset(map, 0, static_cast<std::size_t>(elements) * sizeof(A));
}

// Fills a map for results from row `first` on, of pixels of height x width: get(y, x, count) are pixels x to
// x + count - 1 of row y, anything behind those.
template <class A, class Get>
LITEHRNET_INLINE void fill_map(A* map, const MapShape<A>& shape, int first, int height, int width, const Get& get) {
  constexpr int lanes = kLanes<A>;
  const int pitch = shape.pitch(), top = first * shape.stride - 1;
  const int begin = most(top, 0), end = least(top + shape.map_rows(), height);
  if (shape.stride == 1) {
    const int whole = width / lanes * lanes;
    for (int y = begin; y < end; ++y) {
      A* row = map + (y - top) * pitch + lanes;
      int x = 0;
      for (; x < whole; x += lanes) store(row + x, get(y, x, lanes));
      if (x < width) store(row + x, keep_first<A>(get(y, x, width - x), width - x));
    }
    return;
  }
  const int whole = width / (2 * lanes) * (2 * lanes), odd = shape.part();
  for (int y = begin; y < end; ++y) {
    A* row = map + (y - top) * pitch + lanes;
    int x = 0;
    for (; x < whole; x += 2 * lanes) {
      const Vector<A> a = get(y, x, lanes), b = get(y, x + lanes, lanes);
      store(row + x / 2, even_lanes<A>(a, b));
      store(row + x / 2 + odd, odd_lanes<A>(a, b));
    }
    if (x < width) {
      const int rest = width - x;
      const Vector<A> a = keep_first<A>(get(y, x, least(rest, lanes)), rest);
      const Vector<A> b = rest > lanes ? keep_first<A>(get(y, x + lanes, rest - lanes), rest - lanes) : zero<A>();
      store(row + x / 2, even_lanes<A>(a, b));
      store(row + x / 2 + odd, odd_lanes<A>(a, b));
    }
  }
}

template <class A>
struct RowFilter {
  Vector<A> left, middle, right;
  LITEHRNET_INLINE RowFilter(const A* taps)
      : left(broadcast(taps[0])), middle(broadcast(taps[1])), right(broadcast(taps[2])) {}
  LITEHRNET_INLINE Vector<A> operator()(Vector<A> l, Vector<A> m, Vector<A> r) const {
    return fma(r, right, fma(m, middle, l * left));
  }
  LITEHRNET_INLINE Vector<A> operator()(Vector<A> l, Vector<A> m, Vector<A> r, Vector<A> sum) const {
    return fma(r, right, fma(m, middle, fma(l, left, sum)));
  }
};

// One column of vectors: calls emit(row, vector) for its rows.
template <int kStride, class A, class Emit>
LITEHRNET_INLINE void filter_column(const A* at, const MapShape<A>& shape, const FilterWeights<A>& weights,
                                    const Emit& emit) {
  const int pitch = shape.pitch(), rows = shape.rows;
  const RowFilter<A> upper(weights.tap), centre(weights.tap + 3), lower(weights.tap + 6);
  const Vector<A> bias = broadcast(weights.bias);
  if constexpr (kStride == 1) {
    Vector<A> first = upper(load(at - 1), load(at), load(at + 1), bias);  // of the row at hand, and of the next one
    at += pitch;
    Vector<A> l = load(at - 1), m = load(at), r = load(at + 1);
    first = centre(l, m, r, first);
    Vector<A> second = upper(l, m, r, bias);
    at += pitch;
#pragma GCC unroll 2
    for (int y = 0; y < rows; ++y, at += pitch) {
      l = load(at - 1), m = load(at), r = load(at + 1);
      emit(y, first + lower(l, m, r));
      first = second + centre(l, m, r);
      second = upper(l, m, r, bias);
    }
  } else {
    const A* odd = at + shape.part();
    Vector<A> top = upper(load(odd - 1), load(at), load(odd), bias);
    at += pitch, odd += pitch;
    for (int y = 0; y < rows; ++y, at += 2 * pitch, odd += 2 * pitch) {
      const Vector<A> sum = centre(load(odd - 1), load(at), load(odd), top);
      const Vector<A> l = load(odd + pitch - 1), m = load(at + pitch), r = load(odd + pitch);
      emit(y, sum + lower(l, m, r));
      top = upper(l, m, r, bias);
    }
  }
}

// Into dense rows of scratch memory, which has a vector to spare.
template <int kStride, class A>
LITEHRNET_INLINE void filter_into_rows(const A* map, const MapShape<A>& shape, const FilterWeights<A>& weights, A* to) {
  constexpr int lanes = kLanes<A>;
  const int width = shape.width;
  for (int x = (width - 1) / lanes * lanes; x >= 0; x -= lanes) {
    A* column = to + x;
    filter_column<kStride>(map + lanes + x, shape, weights, [&](int, Vector<A> v) {
      store(column, v);
      column += width;
    });
  }
}
template <class A>
__attribute__((noinline)) void filter_map(const A* map, const MapShape<A>& shape, const FilterWeights<A>& weights,
                                          A* to) {
  if (shape.stride == 1)
    filter_into_rows<1>(map, shape, weights, to);
  else
    filter_into_rows<2>(map, shape, weights, to);
}

// The gradient of the pixels, height x width, in dense rows with two vectors to spare: the sum over taps (dy, dx) of
// tap(dy, dx) g(y, x) where stride * (y, x) + (dy, dx) - 1 is the pixel. `map` holds g, and is that of a convolution
// with stride 1 of g. With stride 2 a pixel has one, two or four taps, by whether its row and column are even.
template <class A>
__attribute__((noinline)) void filter_transposed(const A* map, const MapShape<A>& shape, const FilterWeights<A>& weights,
                                                 int stride, int height, int width, A* to) {
  constexpr int lanes = kLanes<A>;
  if (stride == 1) {
    FilterWeights<A> turned{{}, 0};  // by half a turn
    for (int i = 0; i < 9; ++i) turned.tap[i] = weights.tap[8 - i];
    return filter_into_rows<1>(map, shape, turned, to);
  }
  Vector<A> tap[9];
  for (int i = 0; i < 9; ++i) tap[i] = broadcast(weights.tap[i]);
  const int pitch = shape.pitch();
  for (int x = (shape.width - 1) / lanes * lanes; x >= 0; x -= lanes) {
    const A* at = map + pitch + lanes + x;
    A* row = to + 2 * x;
    Vector<A> here = load(at), right = load(at + 1);
    for (int y = 0; y < height; y += 2) {
      const Vector<A> even = here * tap[4], odd = fma(right, tap[3], here * tap[5]);
      store(row, first_in_turn<A>(even, odd)), store(row + lanes, second_in_turn<A>(even, odd));
      row += width, at += pitch;
      if (y + 1 == height) break;
      const Vector<A> below = load(at), below_right = load(at + 1);
      const Vector<A> lower_even = fma(below, tap[1], here * tap[7]);
      const Vector<A> lower_odd = fma(below_right, tap[0], fma(below, tap[2], fma(right, tap[6], here * tap[8])));
      store(row, first_in_turn<A>(lower_even, lower_odd)), store(row + lanes, second_in_turn<A>(lower_even, lower_odd));
      row += width, here = below, right = below_right;
    }
  }
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
