// float4 and its relatives: the members and the alignment of CUDA's.
#pragma once

#include "emulator/language.h"

#define EMULATOR_VECTORS(Name, Scalar, alignment2, alignment4)                                                       \
  struct Name##1 {                                                                                                   \
    Scalar x;                                                                                                        \
  };                                                                                                                 \
  struct alignas(alignment2) Name##2 {                                                                               \
    Scalar x, y;                                                                                                     \
  };                                                                                                                 \
  struct alignas(alignment4) Name##4 {                                                                               \
    Scalar x, y, z, w;                                                                                               \
  };                                                                                                                 \
  inline Name##1 make_##Name##1(Scalar x) { return {x}; }                                                            \
  inline Name##2 make_##Name##2(Scalar x, Scalar y) { return {x, y}; }                                               \
  inline Name##4 make_##Name##4(Scalar x, Scalar y, Scalar z, Scalar w) { return {x, y, z, w}; }

EMULATOR_VECTORS(char, signed char, 2, 4)
EMULATOR_VECTORS(uchar, unsigned char, 2, 4)
EMULATOR_VECTORS(short, short, 4, 8)
EMULATOR_VECTORS(ushort, unsigned short, 4, 8)
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(uint, unsigned, 8, 16)
EMULATOR_VECTORS(longlong, long long, 16, 16)
EMULATOR_VECTORS(ulonglong, unsigned long long, 16, 16)
EMULATOR_VECTORS(float, float, 8, 16)
EMULATOR_VECTORS(double, double, 16, 16)
#undef EMULATOR_VECTORS

struct int3 {
  int x, y, z;
};
struct float3 {
  float x, y, z;
};
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
