// The pixels of a branch that one position of a low-resolution map pools, and those that read it, cut into lanes and
// vectors of up to 16 bytes ("pieces").
#pragma once

#include "core/elements.cuh"
#include "core/resample.h"

namespace litehrnet {

// How the windows of one branch are cut. A window has a power of two of lanes, each with every so many'th piece.
struct Windows {
  FastDivisor pieces_per_row;  // of a window, coinciding windows only
  int log_lanes;               // of a window
  int vec;                     // elements of a piece
  int coincide;                // the window that is pooled is the window that reads
  int ratio_y, ratio_x;        // pixels of a window then
};

// The pixels that adaptive_avg_pool averages for a position of `positions_high` x `positions_wide`.
__device__ __forceinline__ Window pooled_window(const Windows& w, int row, int column, int height, int width,
                                                int positions_high, int positions_wide) {
  if (w.coincide) return {row * w.ratio_y, column * w.ratio_x, w.ratio_y, w.ratio_x};
  const Span y = pooled_span(row, positions_high, height);
  const Span x = pooled_span(column, positions_wide, width);
  return {y.begin, x.begin, y.end - y.begin, x.end - x.begin};
}

// The pixels that nearest upsampling gives the position to; possibly none. All positions' windows partition the map.
__device__ __forceinline__ Window reading_window(const Windows& w, int row, int column, int height, int width,
                                                 int positions_high, int positions_wide) {
  if (w.coincide) return {row * w.ratio_y, column * w.ratio_x, w.ratio_y, w.ratio_x};
  const Span y = nearest_span(row, positions_high, height);
  const Span x = nearest_span(column, positions_wide, width);
  return {y.begin, x.begin, y.end - y.begin, x.end - x.begin};
}

// Calls visit(offset of the piece in its plane) for the pieces of the lane whose first piece it is.
template <int kVec, class Visit>
__device__ __forceinline__ void for_each_piece(const Windows& w, const Window& window, int first_piece,
                                               int plane_width, Visit visit) {
  const int per_row = window.columns / kVec, pieces = window.rows * per_row;
  for (int piece = first_piece; piece < pieces; piece += 1 << w.log_lanes) {
    const int row = w.coincide ? w.pieces_per_row.divide(piece) : piece / per_row;
    visit((window.row + row) * plane_width + window.column + (piece - row * per_row) * kVec);
  }
}

// For a branch of height x width. `may_read(vec)` says whether all maps that are visited piece by piece are aligned to
// vectors of that many elements: see is_aligned().
template <class Predicate>
Windows make_windows(int height, int width, int positions_high, int positions_wide, DType dtype, Predicate may_read) {
  Windows w{};
  w.coincide = windows_coincide(positions_high, height) && windows_coincide(positions_wide, width);
  w.ratio_y = w.coincide ? height / positions_high : 0;
  w.ratio_x = w.coincide ? width / positions_wide : 0;
  w.vec = w.coincide ? kVecBytes / static_cast<int>(element_size(dtype)) : 1;
  while (w.vec > 1 && (w.ratio_x % w.vec != 0 || !may_read(w.vec))) w.vec /= 2;
  const int area =
      w.coincide ? w.ratio_y * w.ratio_x / w.vec : (height / positions_high + 1) * (width / positions_wide + 1);
  w.log_lanes = smaller(ceil_log2(area), 5);
  w.pieces_per_row = FastDivisor::of(w.coincide ? w.ratio_x / w.vec : 1);
  return w;
}

}  // namespace litehrnet
