// __half and __nv_bfloat16: 16 bits of storage, arithmetic in float, rounded to nearest even after every operation.
//
// For + - * / and sqrt that is the exactly rounded result: float has more than twice the precision of either type plus
// two bits, so rounding twice changes nothing. A fused multiply-add needs care, see fma_to().
#pragma once

#include "emulator/vector_types.h"

namespace emulator {

// A float next to x on the side of the exact value, and odd where x is not exact: rounding it once more to 16 bits then
// gives what rounding the exact value once would have.
inline float round_to_odd(double exact) {
  const auto x = static_cast<float>(exact);
  if (x != x || std::isinf(x) || static_cast<double>(x) == exact) return x;
  const auto bits = bit_cast<std::uint32_t>(x);
  if ((bits & 1u) != 0) return x;
  const bool away_from_zero = std::fabs(exact) > std::fabs(static_cast<double>(x));
  return bit_cast<float>(away_from_zero ? bits + 1 : bits - 1);
}

// a + b in double, made odd where it is not exact.
inline double add_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double of_b = sum - a;
  const double rest = (a - (sum - of_b)) + (b - of_b);  // what the sum lacks, exactly
  const auto bits = bit_cast<std::uint64_t>(sum);
  if (rest == 0 || (bits & 1u) != 0) return sum;
  const bool away_from_zero = (rest > 0) == (sum > 0);
  return bit_cast<double>(away_from_zero ? bits + 1 : bits - 1);
}

inline std::uint16_t float_to_half_bits(float x) {
  const auto bits = bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;           // NaN, as the device writes it
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and more round to infinity
  if (magnitude < 0x38800000u) {                        // below 2^-14 in steps of 2^-24, as floats above 0.5 are
    const float aligned = bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (bit_cast<std::uint32_t>(aligned) - 0x3f000000u));
  }
  const std::uint32_t even = magnitude >> 13 & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + even) >> 13));
}

inline float half_bits_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = half >> 10 & 31u;
  const std::uint32_t fraction = half & 0x3ffu;
  if (exponent == 31) return bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

inline std::uint16_t float_to_bfloat16_bits(float x) {
  const auto bits = bit_cast<std::uint32_t>(x);
  if (x != x) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline float bfloat16_bits_to_float(std::uint16_t bits) {
  return bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// a * b + c with one rounding: the product of two 11-bit numbers is exact in double, and the sum is made odd.
template <class T>
inline T fma_to(T a, T b, T c) {
  const double product = static_cast<double>(static_cast<float>(a)) * static_cast<float>(b);
  return T(round_to_odd(add_to_odd(product, static_cast<float>(c))));
}

}  // namespace emulator

#define EMULATOR_SMALL_FLOAT(Name, from_float, to_float)                                                             \
  struct Name {                                                                                                      \
    std::uint16_t bits;                                                                                              \
                                                                                                                     \
    Name() = default;                                                                                                \
    Name(float x) : bits(emulator::from_float(x)) {}                                                                 \
    Name(double x) : Name(emulator::round_to_odd(x)) {}                                                              \
    Name(int x) : Name(static_cast<double>(x)) {}                                                                    \
    Name(unsigned x) : Name(static_cast<double>(x)) {}                                                               \
    operator float() const { return emulator::to_float(bits); }                                                      \
    Name& operator+=(Name other) { return *this = Name(float(*this) + float(other)); }                               \
    Name& operator-=(Name other) { return *this = Name(float(*this) - float(other)); }                               \
    Name& operator*=(Name other) { return *this = Name(float(*this) * float(other)); }                               \
    Name& operator/=(Name other) { return *this = Name(float(*this) / float(other)); }                               \
  };                                                                                                                 \
  inline Name operator+(Name a, Name b) { return a += b; }                                                           \
  inline Name operator-(Name a, Name b) { return a -= b; }                                                           \
  inline Name operator*(Name a, Name b) { return a *= b; }                                                           \
  inline Name operator/(Name a, Name b) { return a /= b; }                                                           \
  inline Name operator-(Name a) { return Name(-float(a)); }                                                          \
  inline Name operator+(Name a) { return a; }                                                                        \
  inline bool operator==(Name a, Name b) { return float(a) == float(b); }                                            \
  inline bool operator!=(Name a, Name b) { return float(a) != float(b); }                                            \
  inline bool operator<(Name a, Name b) { return float(a) < float(b); }                                              \
  inline bool operator>(Name a, Name b) { return float(a) > float(b); }                                              \
  inline bool operator<=(Name a, Name b) { return float(a) <= float(b); }                                            \
  inline bool operator>=(Name a, Name b) { return float(a) >= float(b); }                                            \
                                                                                                                     \
  struct alignas(4) Name##2 {                                                                                        \
    Name x, y;                                                                                                       \
                                                                                                                     \
    Name##2() = default;                                                                                             \
    Name##2(Name x_, Name y_) : x(x_), y(y_) {}                                                                      \
  };                                                                                                                 \
  inline Name##2 operator+(Name##2 a, Name##2 b) { return {a.x + b.x, a.y + b.y}; }                                  \
  inline Name##2 operator-(Name##2 a, Name##2 b) { return {a.x - b.x, a.y - b.y}; }                                  \
  inline Name##2 operator*(Name##2 a, Name##2 b) { return {a.x * b.x, a.y * b.y}; }                                  \
  inline Name##2 operator/(Name##2 a, Name##2 b) { return {a.x / b.x, a.y / b.y}; }                                  \
                                                                                                                     \
  inline Name __hadd(Name a, Name b) { return a + b; }                                                               \
  inline Name __hsub(Name a, Name b) { return a - b; }                                                               \
  inline Name __hmul(Name a, Name b) { return a * b; }                                                               \
  inline Name __hdiv(Name a, Name b) { return a / b; }                                                               \
  inline Name __hneg(Name a) { return -a; }                                                                          \
  inline Name __habs(Name a) { return Name(std::fabs(float(a))); }                                                   \
  inline Name __hfma(Name a, Name b, Name c) { return emulator::fma_to(a, b, c); }                                   \
  inline Name __hmax(Name a, Name b) { return a != a ? b : a < b ? b : a; }                                          \
  inline Name __hmin(Name a, Name b) { return a != a ? b : b < a ? b : a; }                                          \
  inline bool __hisnan(Name a) { return a != a; }                                                                    \
  inline bool __heq(Name a, Name b) { return a == b; }                                                               \
  inline bool __hlt(Name a, Name b) { return a < b; }                                                                \
  inline bool __hgt(Name a, Name b) { return a > b; }                                                                \
  inline Name hsqrt(Name a) { return Name(std::sqrt(float(a))); }                                                    \
  inline Name##2 __hadd2(Name##2 a, Name##2 b) { return a + b; }                                                     \
  inline Name##2 __hsub2(Name##2 a, Name##2 b) { return a - b; }                                                     \
  inline Name##2 __hmul2(Name##2 a, Name##2 b) { return a * b; }                                                     \
  inline Name##2 __hfma2(Name##2 a, Name##2 b, Name##2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
  inline Name##2 __hmax2(Name##2 a, Name##2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }                      \
  inline Name##2 __hmin2(Name##2 a, Name##2 b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }                      \
  inline float __low2float(Name##2 a) { return a.x; }                                                                \
  inline float __high2float(Name##2 a) { return a.y; }

EMULATOR_SMALL_FLOAT(__half, float_to_half_bits, half_bits_to_float)
EMULATOR_SMALL_FLOAT(__nv_bfloat16, float_to_bfloat16_bits, bfloat16_bits_to_float)
#undef EMULATOR_SMALL_FLOAT

using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline float __half2float(__half x) { return x; }
inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline __half __double2half(double x) { return x; }
inline float2 __half22float2(__half2 x) { return {x.x, x.y}; }
inline __half2 __float22half2_rn(float2 x) { return {x.x, x.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float2half2_rn(float x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 x) { return x.x; }
inline __half __high2half(__half2 x) { return x.y; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned short bits) { return emulator::bit_cast<__half>(bits); }

inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline __nv_bfloat16 __double2bfloat16(double x) { return x; }
inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {x.x, x.y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 x) { return {x.x, x.y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {x, x}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x) { return x.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x) { return x.y; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return emulator::bit_cast<__nv_bfloat16>(bits); }
