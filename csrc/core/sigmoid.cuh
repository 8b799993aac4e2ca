// The activation of the gates: device code that g++ cannot read, unlike dtype.h.
#pragma once

#include "core/platform.h"

namespace litehrnet {

// 1 / (1 + e^-v). The fast exponential is off by about 2 + |v| ulp, below 1e-6 relative for |v| < 10; past |v| = 88 it
// gives 0 or infinity, hence gates of exactly 1 or 0.
__device__ __forceinline__ float sigmoid(float value) { return 1.0f / (1.0f + __expf(-value)); }
__device__ __forceinline__ double sigmoid(double value) { return 1.0 / (1.0 + exp(-value)); }

}  // namespace litehrnet
