// What ops for training have in common: norms and their statistics, sums over windows of pixels, products of planes.
//
// Sums     over a plane in vectors, over images in their order, for norms in double: the same, bit by bit, for all
//          numbers of threads.
#pragma once

#include "core/batch_norm.h"
#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/matrix_product.h"
#include "cpu/kernels/nearest.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

// Work is cut by images, and where there are few of these, by channels too.
struct Slices {
  int batch, parts;
  LITEHRNET_INLINE Slices(int batch_, int threads) : batch(batch_), parts(1) {
    if (threads > 1) parts = least(divide_up(2 * threads, most(batch, 1)), 16);
  }
  LITEHRNET_INLINE int tasks() const { return batch * parts; }
  LITEHRNET_INLINE int image(int task) const { return task / parts; }
  LITEHRNET_INLINE int first(int task, int channels) const {
    return static_cast<int>(static_cast<std::int64_t>(channels) * (task % parts) / parts);
  }
  LITEHRNET_INLINE int end(int task, int channels) const {
    return static_cast<int>(static_cast<std::int64_t>(channels) * (task % parts + 1) / parts);
  }
};

LITEHRNET_INLINE std::size_t most_bytes(std::size_t a, std::size_t b) { return a > b ? a : b; }

// Calls f(i, count) for vectors of elements i to i + count - 1.
template <class A, class F>
LITEHRNET_INLINE void for_vectors(int elements, const F& f) {
  constexpr int lanes = kLanes<A>;
  int i = 0;
  for (; i + lanes <= elements; i += lanes) f(i, lanes);
  if (i < elements) f(i, elements - i);
}

// Sums of get(i, count), four vectors at a time. Lanes that do not count are zeros.
template <class A, class Get>
LITEHRNET_INLINE A sum_of(int elements, const Get& get) {
  constexpr int lanes = kLanes<A>;
  Vector<A> s0{}, s1{}, s2{}, s3{};
  int i = 0;
  for (; i + 4 * lanes <= elements; i += 4 * lanes) {
    s0 += get(i, lanes), s1 += get(i + lanes, lanes);
    s2 += get(i + 2 * lanes, lanes), s3 += get(i + 3 * lanes, lanes);
  }
  for (; i + lanes <= elements; i += lanes) s0 += get(i, lanes);
  if (i < elements) s1 += keep_first<A>(get(i, elements - i), elements - i);
  return sum_of_lanes((s0 + s1) + (s2 + s3));
}

template <class A>
LITEHRNET_INLINE A dot(const A* a, const A* b, int elements) {
  return sum_of<A>(elements, [&](int i, int count) { return load(a + i, count) * load(b + i, count); });
}

// to += factor * from
template <class A>
LITEHRNET_INLINE void add_scaled(A* to, A factor, const A* from, int elements) {
  const Vector<A> f = broadcast(factor);
  for_vectors<A>(elements,
                 [&](int i, int count) { store(to + i, fma(f, load(from + i, count), load(to + i, count)), count); });
}

// y = (x - mean) inverse weight + bias = x scale + shift
template <class A>
struct Normalisation {
  A weight, bias, mean, inverse;
  LITEHRNET_INLINE A scale() const { return weight * inverse; }
  LITEHRNET_INLINE A shift() const { return bias - mean * scale(); }
};
template <class A>
LITEHRNET_INLINE Normalisation<A> normalisation(const BatchNorm& norm, int channel, double eps) {
  if (norm.weight == nullptr) return {1, 0, 0, 1};
  const double variance = static_cast<const A*>(norm.variance)[channel];
  return {static_cast<const A*>(norm.weight)[channel], static_cast<const A*>(norm.bias)[channel],
          static_cast<const A*>(norm.mean)[channel], static_cast<A>(1 / __builtin_sqrt(variance + eps))};
}

// Of a plane: the mean, and the sum of squared distances from it.
template <class A>
struct Moments {
  A mean, squares;
};
template <class T>
__attribute__((noinline)) Moments<acc_t<T>> plane_moments(const T* plane, int pixels) {
  using A = acc_t<T>;
  Moments<A> result;
  result.mean = sum_of<A>(pixels, [&](int i, int count) { return load(plane + i, count); }) / static_cast<A>(pixels);
  const Vector<A> mean = broadcast(result.mean);
  result.squares = sum_of<A>(pixels, [&](int i, int count) {
    const Vector<A> d = load(plane + i, count) - mean;
    return d * d;
  });
  return result;
}

// Statistics of a batch from moments [N][stride], of planes of so many pixels.
template <class A>
void merge_moments(const BatchNorm& norm, int channels, const Moments<A>* moments, int stride, int batch, int pixels) {
  const double count = static_cast<double>(batch) * pixels;
  for (int c = 0; c < channels; ++c) {
    double mean = 0, squares = 0;
    for (int n = 0; n < batch; ++n) mean += moments[n * stride + c].mean;
    mean /= batch;
    for (int n = 0; n < batch; ++n) {
      const double distance = moments[n * stride + c].mean - mean;
      squares += moments[n * stride + c].squares + pixels * distance * distance;
    }
    static_cast<A*>(norm.mean)[c] = static_cast<A>(mean);
    static_cast<A*>(norm.variance)[c] = static_cast<A>(squares / count);
    if (norm.unbiased_variance != nullptr)
      static_cast<A*>(norm.unbiased_variance)[c] = static_cast<A>(squares / (count - 1));
  }
}

// Gradient of a norm's input, dx = factor dy + slope (x - mean) + shift, from the sums of dy and of dy n over all
// values, n being normalised. These are the gradients of bias and weight.
template <class A>
struct NormGradient {
  A factor, slope, mean, shift;
};
template <class A>
LITEHRNET_INLINE NormGradient<A> norm_gradient(const Normalisation<A>& norm, double sum, double sum_normalised,
                                               double count, bool batch_statistics) {
  const A scale = norm.scale();
  if (!batch_statistics) return {scale, 0, norm.mean, 0};
  return {scale, static_cast<A>(-scale * norm.inverse * (sum_normalised / count)), norm.mean,
          static_cast<A>(-scale * (sum / count))};
}

// w[row][column] anywhere, for matrix_product; transposed matrices are such.
template <class A>
struct StridedMatrix {
  const A* weights;
  int columns, rows;
  std::int64_t row_pitch, column_pitch;
  template <int kRows>
  struct Cursor {
    const A* at[kRows];
    std::int64_t offset, step;
    LITEHRNET_INLINE A weight(int i) const { return at[i][offset]; }
    LITEHRNET_INLINE void next() { offset += step; }
  };
  template <int kRows>
  LITEHRNET_INLINE Cursor<kRows> from(int row) const {
    Cursor<kRows> result{};
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) result.at[i] = weights + least(row + i, rows - 1) * row_pitch;
    result.step = column_pitch;
    return result;
  }
};

// Epilogue: y is added to planes at the same distance from one another.
template <class A>
struct AddRegular {
  A* to;
  std::int64_t stride;
  struct Row {
    A* to;
    LITEHRNET_INLINE void operator()(int pixel, Vector<A> v, int count) const {
      store(to + pixel, load(to + pixel, count) + v, count);
    }
  };
  LITEHRNET_INLINE Row operator()(int row) const { return {to + row * stride}; }
};

// to[pixel][column] = planes[column][pixel] - centre[column], centre = null: nothing is subtracted; rows of whole vectors,
// with anything behind the last column.
template <bool kCentred, class T>
__attribute__((noinline)) void transpose_planes(const T* planes, std::int64_t pitch, int columns,
                                                const acc_t<T>* centre, int pixels, acc_t<T>* to) {
  using A = acc_t<T>;
  constexpr int lanes = kLanes<A>;
  const int to_pitch = divide_up(columns, lanes) * lanes;
  for (int column = 0; column < columns; column += lanes)
    for (int pixel = 0; pixel < pixels; pixel += lanes) {
      const int count = least(lanes, pixels - pixel);
      Vector<A> tile[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) {
        const int at = least(column + i, columns - 1);
        tile[i] = load(planes + at * pitch + pixel, count);
        if constexpr (kCentred) tile[i] -= broadcast(centre[at]);
      }
      transpose<A>(tile);
      for (int i = 0; i < count; ++i) store(to + static_cast<std::int64_t>(pixel + i) * to_pitch + column, tile[i]);
    }
}

// Pixels of which add_products_of_planes has a transposed copy, and elements of that.
constexpr int kProductPixels = 96;
template <class A>
LITEHRNET_INLINE std::int64_t transposed_elements(int columns) {
  return static_cast<std::int64_t>(kProductPixels) * divide_up(columns, kLanes<A>) * kLanes<A>;
}

// sums[i][j] += sum over pixels of a[i] (b[j] - centre[j]), centre = null: nothing is subtracted. A matrix, a, times b
// transposed: lanes are columns, so that small maps fill them as well, and sums stay in registers over the pixels.
template <bool kCentred, class T>
void add_products_of_planes(const acc_t<T>* a, std::int64_t a_pitch, int rows, const T* b, std::int64_t b_pitch,
                            int columns, const acc_t<T>* centre, int pixels, acc_t<T>* transposed, acc_t<T>* sums) {
  using A = acc_t<T>;
  const std::int64_t pitch = divide_up(columns, kLanes<A>) * kLanes<A>;
  for (int pixel = 0; pixel < pixels; pixel += kProductPixels) {
    const int count = least(kProductPixels, pixels - pixel);
    transpose_planes<kCentred>(b + pixel, b_pitch, columns, centre, count, transposed);
    matrix_product(StridedMatrix<A>{a + pixel, count, rows, a_pitch, 1}, static_cast<const A*>(nullptr),
                   RegularColumns<A>{transposed, pitch}, 0, columns, AddRegular<A>{sums, columns});
  }
}

// Gradients of matrices are summed by groups of images, whose number does not depend on that of threads.
constexpr int kMaxGroups = 16;
struct Groups {
  int batch, count;
  LITEHRNET_INLINE explicit Groups(int batch_) : batch(batch_), count(least(batch_, kMaxGroups)) {}
  LITEHRNET_INLINE int first(int group) const {
    return static_cast<int>(static_cast<std::int64_t>(batch) * group / count);
  }
  LITEHRNET_INLINE int end(int group) const { return first(group + 1); }
};

// result[k] = sum over parts, in their order
template <class A>
LITEHRNET_INLINE void sum_parts(const A* parts, std::int64_t pitch, int count, int first, int end, A* result) {
  for_vectors<A>(end - first, [&](int i, int lanes) {
    Vector<A> sum{};
    for (int part = 0; part < count; ++part) sum += load(parts + part * pitch + first + i, lanes);
    store(result + first + i, sum, lanes);
  });
}

// A map of high x wide positions at a lower (or whatever) resolution than height x width pixels, and who reads whom:
// nearest upsampling, and the windows of adaptive average pooling.
template <class A>
class Resolutions {
 public:
  // Room that an object needs.
  struct Room {
    Spread<A>* spreads;
    int* columns;
    A* row;
    Room() = default;
    LITEHRNET_INLINE Room(Cutter& cutter, int width, int wide)
        : spreads(cutter.cut<Spread<A>>(2 * divide_up(width, kLanes<A>))),
          columns(cutter.cut<int>(width)),
          row(cutter.cut<A>(most(width, wide) + 2 * kLanes<A>)) {}
  };

  // `prepared`: the room is an earlier object's, of the same sizes.
  Resolutions(const Room& room, int height, int width, int high, int wide, bool prepared = false)
      : height_(height), width_(width), high_(high), wide_(wide), along_y_(high, height), room_(room) {
    vectors_ = divide_up(width, kLanes<A>);
    if (!prepared) spread_pixels<A>(0, width, 1, width, 1, wide, room.columns, room.spreads);
    exact_ = height % high == 0 && width % wide == 0;
    halvings_ = -1;
    for (int k = 0; k < 20 && (wide << k) <= width; ++k)
      if ((wide << k) == width) halvings_ = k;
    if (exact_) {
      ratio_ = height / high;
      if (prepared) return;
      int position[kLanes<A>];
      const int ratio = width / wide;
      for (int v = 0; v < vectors_; ++v) {
        const int count = least(kLanes<A>, width - v * kLanes<A>);
        for (int lane = 0; lane < count; ++lane) position[lane] = (v * kLanes<A> + lane) / ratio;
        room.spreads[vectors_ + v] = make_spread<A>(position, count);
      }
    }
  }

  LITEHRNET_INLINE int nearest_row(int y) const { return along_y_(y); }

  // The pixels' values in a row that reads this row of positions. There is a vector to spare behind both.
  LITEHRNET_INLINE void upsample(const A* positions, A* pixels) const {
    for (int v = 0; v < vectors_; ++v) store(pixels + v * kLanes<A>, room_.spreads[v](positions));
  }

  // sums[position] = sum of get(y, x, count) over the pixels that read it
  template <class Get>
  LITEHRNET_INLINE void sum_readers(const Get& get, A* sums) const {
    if (height_ == high_ && width_ == wide_) return copy(get, sums);
    for (int i = 0; i < high_ * wide_; ++i) sums[i] = 0;
    for (int y = 0, row = nearest_row(0); y < height_;) {
      int end = y + 1, next = row;
      while (end < height_ && (next = nearest_row(end)) == row) ++end;
      add_rows(get, y, end);
      A* to = sums + row * wide_;
      if (halvings_ >= 0) {
        halve(to);
      } else {
        const Nearest along_x(wide_, width_);
        for (int x = 0; x < width_; ++x) to[along_x(x)] += room_.row[x];
      }
      y = end, row = next;
    }
  }

  // means[position] = mean of get(y, x, count) over its window
  template <class Get>
  LITEHRNET_INLINE void pool(const Get& get, A* means) const {
    if (height_ == high_ && width_ == wide_) return copy(get, means);
    for (int i = 0; i < high_; ++i) {
      const int begin = first(i, high_, height_), end = last(i, high_, height_);
      add_rows(get, begin, end);
      A* to = means + i * wide_;
      if (halvings_ >= 0) {
        halve(to);
        const A area = static_cast<A>((end - begin) << halvings_);
        for (int j = 0; j < wide_; ++j) to[j] = to[j] / area;
      } else {
        for (int j = 0; j < wide_; ++j) {
          const int left = first(j, wide_, width_), right = last(j, wide_, width_);
          A sum = 0;
          for (int x = left; x < right; ++x) sum += room_.row[x];
          to[j] = sum / static_cast<A>((right - left) * (end - begin));
        }
      }
    }
  }

  // The gradient of pool(): divide() makes of gradients of means what each pixel of a window gets, unpool() gives a row
  // of pixels the sum over windows; it has to be called for rows in their order, and fills `pixels` when that changes.
  LITEHRNET_INLINE void divide(A* gradients) const {
    if (exact_) {
      const Vector<A> area = broadcast(static_cast<A>(height_ / high_ * (width_ / wide_)));
      for_vectors<A>(high_ * wide_,
                     [&](int i, int count) { store(gradients + i, load(gradients + i, count) / area, count); });
      return;
    }
    for (int i = 0; i < high_; ++i)
      for (int j = 0; j < wide_; ++j)
        gradients[i * wide_ + j] /= static_cast<A>((last(i, high_, height_) - first(i, high_, height_)) *
                                                   (last(j, wide_, width_) - first(j, wide_, width_)));
  }
  LITEHRNET_INLINE void unpool(const A* gradients, int y, A* pixels) const {
    if (exact_) {
      if (y % ratio_ != 0) return;
      const A* row = gradients + y / ratio_ * wide_;
      for (int v = 0; v < vectors_; ++v) store(pixels + v * kLanes<A>, room_.spreads[vectors_ + v](row));
      return;
    }
    int top = static_cast<int>(static_cast<std::int64_t>(y) * high_ / height_);
    while (top > 0 && last(top - 1, high_, height_) > y) --top;
    while (last(top, high_, height_) <= y) ++top;
    int bottom = top + 1;
    while (bottom < high_ && first(bottom, high_, height_) <= y) ++bottom;
    for (int x = 0; x < width_; ++x) pixels[x] = 0;
    for (int j = 0; j < wide_; ++j) {
      A sum = 0;
      for (int i = top; i < bottom; ++i) sum += gradients[i * wide_ + j];
      for (int x = first(j, wide_, width_); x < last(j, wide_, width_); ++x) pixels[x] += sum;
    }
  }

 private:
  // As pooled_span in core/resample.h, to be compiled for the instruction set at hand.
  static LITEHRNET_INLINE int first(int position, int positions, int size) {
    return static_cast<int>(static_cast<std::int64_t>(position) * size / positions);
  }
  static LITEHRNET_INLINE int last(int position, int positions, int size) {
    return static_cast<int>((static_cast<std::int64_t>(position + 1) * size + positions - 1) / positions);
  }

  template <class Get>
  LITEHRNET_INLINE void copy(const Get& get, A* to) const {
    for (int y = 0; y < height_; ++y)
      for_vectors<A>(width_, [&](int x, int count) { store(to + y * width_ + x, get(y, x, count), count); });
  }
  template <class Get>
  LITEHRNET_INLINE void add_rows(const Get& get, int begin, int end) const {
    for_vectors<A>(width_, [&](int x, int count) {
      Vector<A> sum = get(begin, x, count);
      for (int y = begin + 1; y < end; ++y) sum += get(y, x, count);
      store(room_.row + x, sum);
    });
  }
  LITEHRNET_INLINE void halve(A* to) const {
    A* row = room_.row;
    for (int k = 0, width = width_; k < halvings_; ++k, width /= 2)
      for (int x = 0; x < width; x += 2 * kLanes<A>) {
        const Vector<A> a = load(row + x), b = load(row + x + kLanes<A>);
        store(row + x / 2, even_lanes<A>(a, b) + odd_lanes<A>(a, b));
      }
    for (int j = 0; j < wide_; ++j) to[j] = row[j];
  }

  int height_, width_, high_, wide_, vectors_, halvings_;
  int ratio_ = 1;  // of heights, where exact
  bool exact_;
  Nearest along_y_;
  Room room_;
};

// gates[position] = sigmoid(norm(logits)) of one channel and image; a vector behind the last one is written.
template <class T>
LITEHRNET_INLINE void position_gates(const T* logits, const Normalisation<acc_t<T>>& norm, int positions,
                                     acc_t<T>* gates) {
  using A = acc_t<T>;
  const Vector<A> scale = broadcast(norm.scale()), shift = broadcast(norm.shift());
  for_vectors<A>(positions,
                 [&](int i, int count) { store(gates + i, sigmoid(fma(load(logits + i, count), scale, shift))); });
}

// A plane in the padded map of depthwise.h, every pixel times the gate that it reads; gates = null: as it is.
template <class T>
LITEHRNET_INLINE void fill_with_gated(acc_t<T>* map, const MapShape<acc_t<T>>& shape, const T* plane,
                                      const acc_t<T>* gates, const Resolutions<acc_t<T>>& resolutions,
                                      int wide, acc_t<T>* row) {
  using A = acc_t<T>;
  const int width = shape.width, pitch = shape.pitch();
  int at = -1;
  for (int y = 0; y < shape.rows; ++y) {
    A* to = map + (y + 1) * pitch + kLanes<A>;
    const T* from = plane + static_cast<std::int64_t>(y) * width;
    if (gates == nullptr) {
      for_vectors<A>(width, [&](int x, int count) { store(to + x, load(from + x, count)); });
      continue;
    }
    const int nearest = resolutions.nearest_row(y);
    if (nearest != at) resolutions.upsample(gates + nearest * wide, row), at = nearest;
    for_vectors<A>(width, [&](int x, int count) {
      const Vector<A> v = load(from + x, count) * load(row + x);
      store(to + x, count == kLanes<A> ? v : keep_first<A>(v, count));
    });
  }
}

// sums[3 dy + dx] = sum over the gradient's pixels of g(y, x) p(stride y + dy - 1, stride x + dx - 1). Both are in padded
// maps: that of g with stride 1, that of p as `shape` says.
template <class A>
__attribute__((noinline)) void tap_gradients(const A* gradient, const A* pixels, const MapShape<A>& shape, A* sums) {
  constexpr int lanes = kLanes<A>;
  const int pitch = shape.pitch();
  Vector<A> sum[9] = {};
  for (int x = 0; x < shape.width; x += lanes) {
    const A* g = gradient + lanes + x;
    const A* p = pixels + lanes + x;
    if (shape.stride == 1) {
      Vector<A> above = load(g), here = load(g + pitch);
      g += 2 * pitch, p += pitch;
      for (int y = 0; y < shape.rows; ++y, g += pitch, p += pitch) {
        const Vector<A> below = load(g), l = load(p - 1), m = load(p), r = load(p + 1);
        sum[0] = fma(below, l, sum[0]), sum[1] = fma(below, m, sum[1]), sum[2] = fma(below, r, sum[2]);
        sum[3] = fma(here, l, sum[3]), sum[4] = fma(here, m, sum[4]), sum[5] = fma(here, r, sum[5]);
        sum[6] = fma(above, l, sum[6]), sum[7] = fma(above, m, sum[7]), sum[8] = fma(above, r, sum[8]);
        above = here, here = below;
      }
      continue;
    }
    const A* odd = p + shape.part();
    Vector<A> l = load(odd - 1), m = load(p), r = load(odd);
    for (int y = 0; y < shape.rows; ++y) {
      g += pitch, p += pitch, odd += pitch;
      const Vector<A> v = load(g);
      sum[0] = fma(v, l, sum[0]), sum[1] = fma(v, m, sum[1]), sum[2] = fma(v, r, sum[2]);
      sum[3] = fma(v, load(odd - 1), sum[3]), sum[4] = fma(v, load(p), sum[4]), sum[5] = fma(v, load(odd), sum[5]);
      p += pitch, odd += pitch;
      l = load(odd - 1), m = load(p), r = load(odd);
      sum[6] = fma(v, l, sum[6]), sum[7] = fma(v, m, sum[7]), sum[8] = fma(v, r, sum[8]);
    }
  }
  for (int k = 0; k < 9; ++k) sums[k] = sum_of_lanes(sum[k]);
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
