// Launches the steps of a plan's program, or makes them phases of one launch: host code alone.
#include "cuda/plan_program.h"

#include "params/plan_reader.h"

namespace litehrnet {
namespace {

// The launchers by their parameters.
struct LaunchStep {
  DType dtype;
  cudaStream_t stream;
  cudaError_t operator()(const PlanStemParams& p) const { return launch_plan_stem_convolution(p, dtype, stream); }
  cudaError_t operator()(const PlanSeparableParams& p) const {
    return launch_plan_separable_convolution(p, dtype, stream);
  }
  cudaError_t operator()(const PlanPointwiseParams& p) const {
    return launch_plan_pointwise_convolution(p, dtype, stream);
  }
  cudaError_t operator()(const PlanResolutionGatesParams& p) const {
    return launch_plan_resolution_gates(p, dtype, stream);
  }
  cudaError_t operator()(const PlanGatedDepthwiseParams& p) const {
    return launch_plan_gated_depthwise(p, dtype, stream);
  }
  cudaError_t operator()(const PlanFuseUpwardParams& p) const { return launch_plan_fuse_upward(p, dtype, stream); }
  cudaError_t operator()(const PlanFuseDownwardParams& p) const {
    return launch_plan_fuse_downward(p, dtype, stream);
  }
  cudaError_t operator()(const PlanHeadConvolutionParams& p) const {
    return launch_plan_head_convolution(p, dtype, stream);
  }
};

// What visit_steps() comes to, with start(params) for every step.
template <class Start>
cudaError_t start_steps(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps,
                        Start start) {
  cudaError_t error = cudaSuccess;
  const bool is_done = visit_steps(program, memory, dtype, steps, [&](const auto& params) {
    error = start(params);
    return error == cudaSuccess;
  });
  return is_done || error != cudaSuccess ? error : cudaErrorInvalidValue;
}

}  // namespace

cudaError_t launch_plan(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps,
                        cudaStream_t stream) {
  return start_steps(program, memory, dtype, steps, LaunchStep{dtype, stream});
}

cudaError_t append_plan(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps,
                        PlanPhases& phases) {
  return start_steps(program, memory, dtype, steps,
                     [&](const auto& params) { return append_phase(params, dtype, phases); });
}

}  // namespace litehrnet
