// Chooses the steps for what the processor can do. Compiled for any processor.
#include "core/cpu_capability.h"
#include "cpu/plan_steps.h"
#include "cpu/kernels/plan_targets.h"

namespace litehrnet::cpu {
namespace {

#define LITEHRNET_CPU_TABLE(target)                                              \
  {                                                                              \
    {target::plan_stem_convolution_scratch, target::plan_stem_convolution},      \
        {target::plan_separable_convolution_scratch, target::plan_separable_convolution}, \
        {target::plan_pointwise_convolution_scratch, target::plan_pointwise_convolution}, \
        {target::plan_resolution_gates_scratch, target::plan_resolution_gates},  \
        {target::plan_gated_depthwise_scratch, target::plan_gated_depthwise},    \
        {target::plan_fuse_upward_scratch, target::plan_fuse_upward},            \
        {target::plan_fuse_downward_scratch, target::plan_fuse_downward},        \
        {target::plan_head_convolution_scratch, target::plan_head_convolution},  \
  }

constexpr StepTable kBaseline = LITEHRNET_CPU_TABLE(baseline);
#if defined(__x86_64__)
constexpr StepTable kAvx2 = LITEHRNET_CPU_TABLE(avx2);
constexpr StepTable kAvx512 = LITEHRNET_CPU_TABLE(avx512);
#endif

}  // namespace

const StepTable& step_table() {
  switch (cpu_capability()) {
#if defined(__x86_64__)
    case CpuCapability::kAvx512: return kAvx512;
    case CpuCapability::kAvx2: return kAvx2;
#endif
    default: return kBaseline;
  }
}

}  // namespace litehrnet::cpu
