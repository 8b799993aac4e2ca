// Vectors of numbers, as wide as the instruction set that a file is compiled for: the one place with intrinsics.
//
// Files that include this are compiled once for every instruction set, each time with LITEHRNET_CPU_TARGET defined as a
// name of its own, which becomes a namespace. Nothing in them may have external linkage outside of that namespace, nor
// may they instantiate templates of the standard library: a linker keeps one copy of an inline function, perhaps that
// for the wrong processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef LITEHRNET_CPU_TARGET
#error "define LITEHRNET_CPU_TARGET as the instruction set's name"
#endif

#define LITEHRNET_ALWAYS_INLINE __attribute__((always_inline))
#define LITEHRNET_INLINE inline LITEHRNET_ALWAYS_INLINE

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr bool kManyRegisters = true;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr bool kManyRegisters = false;
#else
constexpr int kVectorBytes = 16;
#if defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif
#endif

// 16-bit floats as they are stored. All arithmetic is in float.
struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <class T>
using acc_t = typename Accumulator<T>::type;

// No may_alias: vectors alias their elements, and nothing else, so that pointers stay in registers across stores.
template <class A>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  typedef float vector __attribute__((vector_size(kVectorBytes)));
  typedef float unaligned __attribute__((vector_size(kVectorBytes), aligned(4)));
  typedef std::int32_t integers __attribute__((vector_size(kVectorBytes)));
  using integer = std::int32_t;
};
template <>
struct VectorTypes<double> {
  typedef double vector __attribute__((vector_size(kVectorBytes)));
  typedef double unaligned __attribute__((vector_size(kVectorBytes), aligned(8)));
  typedef std::int64_t integers __attribute__((vector_size(kVectorBytes)));
  using integer = std::int64_t;
};
template <class A>
using Vector = typename VectorTypes<A>::vector;
template <class A>
using Integers = typename VectorTypes<A>::integers;
template <class A>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(A));

template <class A>
LITEHRNET_INLINE Vector<A> broadcast(A value) {
  return value - Vector<A>{};
}

template <class A>
LITEHRNET_INLINE Vector<A> zero() {
  return Vector<A>{};
}

// 0, 1, 2, ...
template <class A>
LITEHRNET_INLINE Integers<A> lane_numbers() {
  Integers<A> result{};
  for (int lane = 0; lane < kLanes<A>; ++lane) result[lane] = lane;
  return result;
}

// a b + c, rounded once where the processor can
LITEHRNET_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Vector<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
LITEHRNET_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
#if defined(__AVX512F__)
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX2__)
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
  return (Vector<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

// v < 0 ? 0 : v, so that NaN passes; max instructions return their second operand where one is NaN
LITEHRNET_INLINE Vector<float> relu(Vector<float> v) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_max_ps(_mm512_setzero_ps(), (__m512)v);
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_max_ps(_mm256_setzero_ps(), (__m256)v);
#else
  return v < 0 ? zero<float>() : v;
#endif
}

// The nearest number from `low` to `high`; NaN passes
LITEHRNET_INLINE Vector<float> within(Vector<float> v, Vector<float> low, Vector<float> high) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_min_ps((__m512)high, _mm512_max_ps((__m512)low, (__m512)v));
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_min_ps((__m256)high, _mm256_max_ps((__m256)low, (__m256)v));
#else
  v = v < low ? low : v;
  return v > high ? high : v;
#endif
}
LITEHRNET_INLINE Vector<double> relu(Vector<double> v) { return v < 0 ? zero<double>() : v; }

// The first `count` lanes, zeros in the others
template <class A>
LITEHRNET_INLINE Vector<A> keep_first(Vector<A> v, int count) {
  const Integers<A> mask = lane_numbers<A>() < static_cast<typename VectorTypes<A>::integer>(count);
  return (Vector<A>)((Integers<A>)v & mask);
}

LITEHRNET_INLINE float as_number(float value) { return value; }
LITEHRNET_INLINE double as_number(double value) { return value; }
LITEHRNET_INLINE float as_number(BFloat16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float result;
  __builtin_memcpy(&result, &bits, 4);
  return result;
}
// Without _Float16, which compilers have had for a few years only.
LITEHRNET_INLINE float as_number(Half value) {
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  float result = static_cast<float>(magnitude) * 0x1p-24f;  // of subnormal numbers
  if (magnitude >= 0x400) {
    const std::uint32_t bits = (magnitude << 13) + ((magnitude < 0x7c00 ? 112u : 224u) << 23);
    __builtin_memcpy(&result, &bits, 4);
  }
  return (value.bits & 0x8000u) != 0 ? -result : result;
}

LITEHRNET_INLINE void set_number(float& to, float value) { to = value; }
LITEHRNET_INLINE void set_number(double& to, double value) { to = value; }
LITEHRNET_INLINE void set_number(BFloat16& to, float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  to.bits = value != value ? static_cast<std::uint16_t>(bits >> 16 | 0x40)
                           : static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
LITEHRNET_INLINE void set_number(Half& to, float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  std::uint32_t half;
  if (bits > 0x7f800000u) {
    half = 0x7e00u | (bits >> 13 & 0x1ffu);  // NaN
  } else if (bits >= 0x477ff000u) {
    half = 0x7c00u;  // from 65520 on: infinity
  } else if (bits < 0x38800000u) {  // subnormal: 0.5 has its last bit where they have theirs
    float magnitude;
    __builtin_memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    __builtin_memcpy(&bits, &magnitude, 4);
    half = bits - 0x3f000000u;
  } else {
    half = (bits - (112u << 23) + 0xfffu + (bits >> 13 & 1u)) >> 13;
  }
  to.bits = static_cast<std::uint16_t>(half | sign);
}

LITEHRNET_INLINE Vector<float> load(const float* from) {
  return *reinterpret_cast<const VectorTypes<float>::unaligned*>(from);
}
LITEHRNET_INLINE Vector<double> load(const double* from) {
  return *reinterpret_cast<const VectorTypes<double>::unaligned*>(from);
}
LITEHRNET_INLINE Vector<float> load(const Half* from) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
  return (Vector<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  Vector<float> result{};
  for (int lane = 0; lane < kLanes<float>; ++lane) result[lane] = as_number(from[lane]);
  return result;
#endif
}
LITEHRNET_INLINE Vector<float> load(const BFloat16* from) {
  typedef std::uint16_t shorts __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
  typedef std::uint32_t words __attribute__((vector_size(kVectorBytes)));
  const shorts bits = *reinterpret_cast<const shorts*>(from);
  return (Vector<float>)(__builtin_convertvector(bits, words) << 16);
}

LITEHRNET_INLINE void store(float* to, Vector<float> v) { *reinterpret_cast<VectorTypes<float>::unaligned*>(to) = v; }
LITEHRNET_INLINE void store(double* to, Vector<double> v) {
  *reinterpret_cast<VectorTypes<double>::unaligned*>(to) = v;
}
LITEHRNET_INLINE void store(Half* to, Vector<float> v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int lane = 0; lane < kLanes<float>; ++lane) set_number(to[lane], v[lane]);
#endif
}
LITEHRNET_INLINE void store(BFloat16* to, Vector<float> v) {
  typedef std::uint16_t shorts __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
  typedef std::uint32_t words __attribute__((vector_size(kVectorBytes)));
  const words bits = (words)v;
  const words nan = (words)(v != v);
  const words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  *reinterpret_cast<shorts*>(to) = __builtin_convertvector((rounded & ~nan) | ((bits >> 16 | 0x40) & nan), shorts);
}

// The first `count` lanes, from 1 to all; the others are zero and not read.
template <class T>
LITEHRNET_INLINE Vector<acc_t<T>> load(const T* from, int count) {
  constexpr int lanes = kLanes<acc_t<T>>;
  if (count == lanes) return load(from);
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (sizeof(T) == 4) return (Vector<float>)_mm512_maskz_loadu_ps(mask, from);
  if constexpr (sizeof(T) == 2) {
    T values[lanes];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm256_maskz_loadu_epi16(mask, from));
    return load(values);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    const Integers<float> mask = lane_numbers<float>() < count;
    return (Vector<float>)_mm256_maskload_ps(reinterpret_cast<const float*>(from), (__m256i)mask);
  }
#endif
  T values[lanes] = {};
  for (int lane = 0; lane < count; ++lane) values[lane] = from[lane];
  return load(values);
}

template <class T>
LITEHRNET_INLINE void store(T* to, Vector<acc_t<T>> v, int count) {
  constexpr int lanes = kLanes<acc_t<T>>;
  if (count == lanes) return store(to, v);
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (sizeof(T) == 4) return _mm512_mask_storeu_ps(to, mask, (__m512)v);
  if constexpr (sizeof(T) == 2) {
    T values[lanes];
    store(values, v);
    return _mm256_mask_storeu_epi16(to, mask, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
  }
#endif
  T values[lanes];
  store(values, v);
  for (int lane = 0; lane < count; ++lane) to[lane] = values[lane];
}

// Lanes 0, 2, 4, ... of a, then of b; lanes 1, 3, 5, ...
template <int kFirst, class A, std::size_t... kLane>
LITEHRNET_INLINE Vector<A> every_second(Vector<A> a, Vector<A> b, std::index_sequence<kLane...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, (2 * static_cast<int>(kLane) + kFirst)...);
#else
  return __builtin_shuffle(a, b, Integers<A>{(2 * static_cast<int>(kLane) + kFirst)...});
#endif
}
template <class A>
LITEHRNET_INLINE Vector<A> even_lanes(Vector<A> a, Vector<A> b) {
  return every_second<0, A>(a, b, std::make_index_sequence<kLanes<A>>{});
}
template <class A>
LITEHRNET_INLINE Vector<A> odd_lanes(Vector<A> a, Vector<A> b) {
  return every_second<1, A>(a, b, std::make_index_sequence<kLanes<A>>{});
}

// Lanes of a and b in turn: those of the first half, of the second one.
template <int kFirst, class A, std::size_t... kLane>
LITEHRNET_INLINE Vector<A> in_turn(Vector<A> a, Vector<A> b, std::index_sequence<kLane...>) {
  constexpr int lanes = static_cast<int>(sizeof...(kLane));
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, (kFirst + static_cast<int>(kLane) / 2 + (kLane % 2 == 0 ? 0 : lanes))...);
#else
  return __builtin_shuffle(a, b, Integers<A>{(kFirst + static_cast<int>(kLane) / 2 + (kLane % 2 == 0 ? 0 : lanes))...});
#endif
}
template <class A>
LITEHRNET_INLINE Vector<A> first_in_turn(Vector<A> a, Vector<A> b) {
  return in_turn<0, A>(a, b, std::make_index_sequence<kLanes<A>>{});
}
template <class A>
LITEHRNET_INLINE Vector<A> second_in_turn(Vector<A> a, Vector<A> b) {
  return in_turn<kLanes<A> / 2, A>(a, b, std::make_index_sequence<kLanes<A>>{});
}

// Lane i of vector k becomes lane k of vector i: as often as halves are left, two halves take turns.
template <class A>
LITEHRNET_INLINE void transpose(Vector<A>* vectors) {
  constexpr int lanes = kLanes<A>;
#pragma GCC unroll 4
  for (int left = lanes; left > 1; left /= 2) {
    Vector<A> next[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      next[2 * i] = first_in_turn<A>(vectors[i], vectors[i + lanes / 2]);
      next[2 * i + 1] = second_in_turn<A>(vectors[i], vectors[i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) vectors[i] = next[i];
  }
}

// The lane of `from` that each index names
LITEHRNET_INLINE Vector<float> permute(Vector<float> from, Integers<float> index) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_permutexvar_ps((__m512i)index, (__m512)from);
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_permutevar8x32_ps((__m256)from, (__m256i)index);
#else
  Vector<float> result{};
  for (int lane = 0; lane < kLanes<float>; ++lane) result[lane] = from[index[lane]];
  return result;
#endif
}
LITEHRNET_INLINE Vector<double> permute(Vector<double> from, Integers<double> index) {
  Vector<double> result{};
  for (int lane = 0; lane < kLanes<double>; ++lane) result[lane] = from[index[lane]];
  return result;
}

// The sum of all lanes, by halves
template <class A>
LITEHRNET_INLINE A sum_by_halves(Vector<A> v) {
  A lanes[kLanes<A>];
  store(lanes, v);
  for (int half = kLanes<A> / 2; half >= 1; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}
LITEHRNET_INLINE float sum_of_lanes(Vector<float> v) { return sum_by_halves<float>(v); }
LITEHRNET_INLINE double sum_of_lanes(Vector<double> v) { return sum_by_halves<double>(v); }

// The sums of all lanes of kCount vectors in the first lanes of one; kCount is a power of two and at most their number.
// A step adds neighbours, after which two vectors fit into one.
template <int kCount, class A>
LITEHRNET_INLINE Vector<A> sums_of_lanes(const Vector<A>* vectors) {
  static_assert(kCount <= kLanes<A>);
  Vector<A> sums[kCount];
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) sums[i] = vectors[i];
#pragma GCC unroll 4
  for (int count = kCount / 2; count >= 1; count /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i)
      sums[i] = even_lanes<A>(sums[2 * i], sums[2 * i + 1]) + odd_lanes<A>(sums[2 * i], sums[2 * i + 1]);
#pragma GCC unroll 4
  for (int left = kLanes<A> / kCount; left > 1; left /= 2)
    sums[0] = even_lanes<A>(sums[0], sums[0]) + odd_lanes<A>(sums[0], sums[0]);
  return sums[0];
}

// 1 / (1 + e^-x)
LITEHRNET_INLINE Vector<float> sigmoid(Vector<float> x) {
  // 2^t with t = -x log2 e, |t| <= 64: 2^(integer part) as a number's exponent, 2^(rest in -0.5..0.5) by Taylor's
  // polynomial. Adding 1.5 * 2^23 + 127 rounds to an integer and leaves it, with the exponent's bias, in the last bits.
  const Vector<float> magic = broadcast(12582912.0f + 127.0f);
  const Vector<float> t = within(x * broadcast(-1.44269504f), broadcast(-64.0f), broadcast(64.0f));
  const Vector<float> shifted = t + magic, f = t - (shifted - magic);
  Vector<float> p = broadcast(1.540353039e-4f);
  p = fma(p, f, broadcast(1.333355815e-3f));
  p = fma(p, f, broadcast(9.618129108e-3f));
  p = fma(p, f, broadcast(5.550410866e-2f));
  p = fma(p, f, broadcast(2.402265070e-1f));
  p = fma(p, f, broadcast(6.931471806e-1f));
  p = fma(p, f, broadcast(1.0f));
  const Vector<float> power = (Vector<float>)((Integers<float>)shifted << 23);
  return broadcast(1.0f) / fma(p, power, broadcast(1.0f));
}
LITEHRNET_INLINE Vector<double> sigmoid(Vector<double> x) {
  Vector<double> result{};
  for (int lane = 0; lane < kLanes<double>; ++lane) result[lane] = 1 / (1 + __builtin_exp(-x[lane]));
  return result;
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
