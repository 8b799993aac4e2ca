// What the processor can do. Code that depends on it is compiled once for each of these, see cpu/kernels/vectors.h.
#pragma once

namespace litehrnet {

enum class CpuCapability : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The best that the processor has, and no more than LITEHRNET_CUDA_CPU_CAPABILITY names. Settled by the first call.
CpuCapability cpu_capability();

const char* name_of(CpuCapability capability);

}  // namespace litehrnet
