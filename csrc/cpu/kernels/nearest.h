// Nearest upsampling, with PyTorch's rounding, as a permutation of vectors: rows and products at a low resolution are
// spread over pixels without ever being stored at the high one.
#pragma once

#include "cpu/kernels/source_planes.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

// As core/resample.h defines it, to be compiled for the instruction set at hand.
struct Nearest {
  float scale;
  int positions;
  LITEHRNET_INLINE Nearest(int positions_, int size)
      : scale(static_cast<float>(positions_) / static_cast<float>(size)), positions(positions_) {}
  LITEHRNET_INLINE int operator()(int pixel) const {
    return least(static_cast<int>(static_cast<float>(pixel) * scale), positions - 1);
  }
};

// The positions that a vector of pixels reads. Where they are close together, the first one and distances from there;
// else first is -1, and they are counted from the beginning.
template <class A>
struct Spread {
  Integers<A> index;
  int first;

  LITEHRNET_INLINE Vector<A> operator()(const A* positions) const {
    if (__builtin_expect(first >= 0, 1)) return permute(load(positions + first), index);
    return far(positions);
  }
  // Without reading behind the last one of `count`.
  LITEHRNET_INLINE Vector<A> operator()(const A* positions, int count) const {
    if (__builtin_expect(first >= 0, 1))
      return permute(load(positions + first, least(kLanes<A>, count - first)), index);
    return far(positions);
  }

 private:
  Vector<A> far(const A* positions) const {
    Vector<A> result{};
    for (int lane = 0; lane < kLanes<A>; ++lane) result[lane] = positions[index[lane]];
    return result;
  }
};

// From `count` positions, of as many pixels.
template <class A>
LITEHRNET_INLINE Spread<A> make_spread(const int* positions, int count) {
  int low = positions[0], high = positions[0];
  for (int i = 1; i < count; ++i) low = least(low, positions[i]), high = most(high, positions[i]);
  Spread<A> result{};
  const bool near = high - low < kLanes<A>;
  result.first = near ? low : -1;
  const int base = near ? low : 0;
  for (int lane = 0; lane < kLanes<A>; ++lane) result.index[lane] = positions[least(lane, count - 1)] - base;
  return result;
}

// For every vector of pixels first to end - 1, counted row after row, of a map of height x width that reads one of
// positions_high x positions_wide. `columns` has room for a row's positions.
template <class A>
void spread_pixels(int first, int end, int height, int width, int positions_high, int positions_wide, int* columns,
                   Spread<A>* spreads) {
  const Nearest along_x(positions_wide, width), along_y(positions_high, height);
  for (int x = 0; x < width; ++x) columns[x] = along_x(x);
  int vector[kLanes<A>], filled = 0, y = first / width, x = first - y * width;
  for (int pixel = first; pixel < end; ++y, x = 0) {
    const int row = along_y(y) * positions_wide;
    for (; x < width && pixel < end; ++x, ++pixel) {
      vector[filled++] = row + columns[x];
      if (filled == kLanes<A>) *spreads++ = make_spread<A>(vector, filled), filled = 0;
    }
  }
  if (filled > 0) *spreads = make_spread<A>(vector, filled);
}

// Whether reading b positions through a positions through a size is reading b positions at once.
LITEHRNET_INLINE bool chains(int b, int a, int size) {
  if (size == 2 * a && a == 2 * b) return true;
  const Nearest b_of_a(b, a), a_of_size(a, size), b_of_size(b, size);
  for (int pixel = 0; pixel < size; ++pixel)
    if (b_of_a(a_of_size(pixel)) != b_of_size(pixel)) return false;
  return true;
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
