// The steps of a plan on the CPU, one image at a time: what an executor calls.
//
// Each step takes the parameters that its CUDA launcher takes. Results are the same bit by bit, however many threads
// there are.
#pragma once

#include <tuple>

#include "cpu/team.h"
#include "params/plan_fuse_downward.h"
#include "params/plan_fuse_upward.h"
#include "params/plan_gated_depthwise.h"
#include "params/plan_head_convolution.h"
#include "params/plan_pointwise_convolution.h"
#include "params/plan_resolution_gates.h"
#include "params/plan_separable_convolution.h"
#include "params/plan_stem_convolution.h"

namespace litehrnet::cpu {

template <class Params>
struct Step {
  // Bytes of scratch memory for a team of so many threads.
  std::size_t (*scratch_bytes)(const Params& params, DType dtype, int threads);
  void (*run)(const Params& params, DType dtype, int image, const Team& team);
};

using StepTable =
    std::tuple<Step<PlanStemParams>, Step<PlanSeparableParams>, Step<PlanPointwiseParams>,
               Step<PlanResolutionGatesParams>, Step<PlanGatedDepthwiseParams>, Step<PlanFuseUpwardParams>,
               Step<PlanFuseDownwardParams>, Step<PlanHeadConvolutionParams>>;

// Those for what the processor can do.
const StepTable& step_table();

}  // namespace litehrnet::cpu
