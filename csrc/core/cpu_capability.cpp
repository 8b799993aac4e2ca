#include "core/cpu_capability.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace litehrnet {
namespace {

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");  // all that have these have F16C
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
CpuCapability best() {
  __builtin_cpu_init();
  return has_avx512() ? CpuCapability::kAvx512 : has_avx2() ? CpuCapability::kAvx2 : CpuCapability::kBaseline;
}
#else
CpuCapability best() { return CpuCapability::kBaseline; }
#endif

CpuCapability choose() {
  const CpuCapability most = best();
  const char* asked_for = std::getenv("LITEHRNET_CUDA_CPU_CAPABILITY");
  if (asked_for == nullptr) return most;
  for (const CpuCapability less : {CpuCapability::kBaseline, CpuCapability::kAvx2})
    if (less < most && std::strcmp(asked_for, name_of(less)) == 0) return less;
  return most;
}

}  // namespace

CpuCapability cpu_capability() {
  static const CpuCapability chosen = choose();
  return chosen;
}

const char* name_of(CpuCapability capability) {
  switch (capability) {
    case CpuCapability::kAvx2: return "avx2";
    case CpuCapability::kAvx512: return "avx512";
    default: return "baseline";
  }
}

}  // namespace litehrnet
