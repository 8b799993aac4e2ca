// Which pixels PyTorch's adaptive average pooling and nearest upsampling assign to a position of a low-resolution map.
#pragma once

#include "core/common.h"

namespace litehrnet {

// A rectangle of pixels.
struct Window {
  int row, column, rows, columns;
};

// Half-open range of pixels along one axis.
struct Span {
  int begin, end;
};

// What adaptive_avg_pool averages for `position` i of p `positions` out of `size` s: floor(i s / p) to
// ceil((i + 1) s / p). Neighbouring ranges overlap where p does not divide s.
LITEHRNET_HOST_DEVICE inline Span pooled_span(int position, int positions, int size) {
  const auto begin = static_cast<std::int64_t>(position) * size / positions;
  const auto end = (static_cast<std::int64_t>(position + 1) * size + positions - 1) / positions;
  return {static_cast<int>(begin), static_cast<int>(end)};
}

// The position that F.interpolate(mode="nearest", size=size) copies to `pixel`. PyTorch rounds the scale to a float, so
// that some pixels read the position below the one that exact arithmetic gives (2 positions and 82 pixels, say).
LITEHRNET_HOST_DEVICE inline int nearest_position(int pixel, int positions, int size) {
  const float scale = static_cast<float>(positions) / static_cast<float>(size);
  const int position = static_cast<int>(static_cast<float>(pixel) * scale);
  return position < positions ? position : positions - 1;
}

// The first pixel whose position is `position` or later. Positions never decrease from pixel to pixel, so the pixels of
// one position are a range.
LITEHRNET_HOST_DEVICE inline int first_nearest_pixel(int position, int positions, int size) {
  int pixel = static_cast<int>(static_cast<std::int64_t>(position) * size / positions);
  while (pixel > 0 && nearest_position(pixel - 1, positions, size) >= position) --pixel;
  while (pixel < size && nearest_position(pixel, positions, size) < position) ++pixel;
  return pixel;
}

LITEHRNET_HOST_DEVICE inline Span nearest_span(int position, int positions, int size) {
  return {first_nearest_pixel(position, positions, size), first_nearest_pixel(position + 1, positions, size)};
}

// Whether the pixels that a position pools are the pixels that read it, for every position.
inline bool windows_coincide(int positions, int size) {
  if (size % positions != 0) return false;
  const int ratio = size / positions;
  if ((ratio & (ratio - 1)) == 0) return true;  // the scale is a power of two and has no rounding error
  for (int position = 0; position < positions; ++position) {
    const Span span = nearest_span(position, positions, size);
    if (span.begin != position * ratio || span.end != (position + 1) * ratio) return false;
  }
  return true;
}

}  // namespace litehrnet
