// The functions of all steps for every capability; cpu/plan_steps.h says what they do.
#pragma once

#include "cpu/team.h"
#include "params/plan_fuse_downward.h"
#include "params/plan_fuse_upward.h"
#include "params/plan_gated_depthwise.h"
#include "params/plan_head_convolution.h"
#include "params/plan_pointwise_convolution.h"
#include "params/plan_resolution_gates.h"
#include "params/plan_separable_convolution.h"
#include "params/plan_stem_convolution.h"

#define LITEHRNET_CPU_STEP(name, Params)                                                     \
  std::size_t name##_scratch(const Params& params, DType dtype, int threads);                \
  void name(const Params& params, DType dtype, int image, const Team& team);

#define LITEHRNET_CPU_STEPS(target)                                        \
  namespace litehrnet::cpu::target {                                       \
  LITEHRNET_CPU_STEP(plan_stem_convolution, PlanStemParams)                     \
  LITEHRNET_CPU_STEP(plan_separable_convolution, PlanSeparableParams)           \
  LITEHRNET_CPU_STEP(plan_pointwise_convolution, PlanPointwiseParams)           \
  LITEHRNET_CPU_STEP(plan_resolution_gates, PlanResolutionGatesParams)          \
  LITEHRNET_CPU_STEP(plan_gated_depthwise, PlanGatedDepthwiseParams)            \
  LITEHRNET_CPU_STEP(plan_fuse_upward, PlanFuseUpwardParams)                    \
  LITEHRNET_CPU_STEP(plan_fuse_downward, PlanFuseDownwardParams)                \
  LITEHRNET_CPU_STEP(plan_head_convolution, PlanHeadConvolutionParams)          \
  }

LITEHRNET_CPU_STEPS(baseline)
#if defined(__x86_64__)
LITEHRNET_CPU_STEPS(avx2)
LITEHRNET_CPU_STEPS(avx512)
#endif
