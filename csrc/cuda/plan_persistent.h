// All steps of a plan in one launch: the phases, and the launcher. The mapping is in plan_persistent_kernel.cuh.
#pragma once

#include <vector>

#include "cuda/plan_fuse_downward.h"
#include "cuda/plan_fuse_upward.h"
#include "cuda/plan_gated_depthwise.h"
#include "cuda/plan_head_convolution.h"
#include "cuda/plan_phase.h"
#include "cuda/plan_pointwise_convolution.h"
#include "cuda/plan_resolution_gates.h"
#include "cuda/plan_separable_convolution.h"
#include "cuda/plan_stem_convolution.h"

namespace litehrnet {

// Steps as the kernel reads them, one after the other. They hold the pointers of their parameters.
struct PlanPhases {
  std::vector<unsigned char> bytes;  // to be copied to device memory, at a multiple of 16 bytes
  int count = 0;
  LaunchShape shape{};  // what the largest phases need
};

// Appends a step. Returns cudaErrorInvalidValue, and appends nothing, for what the step's own launcher refuses.
cudaError_t append_phase(const PlanStemParams& params, DType dtype, PlanPhases& phases);
cudaError_t append_phase(const PlanSeparableParams& params, DType dtype, PlanPhases& phases);
cudaError_t append_phase(const PlanPointwiseParams& params, DType dtype, PlanPhases& phases);
cudaError_t append_phase(const PlanResolutionGatesParams& params, DType dtype, PlanPhases& phases);
cudaError_t append_phase(const PlanGatedDepthwiseParams& params, DType dtype, PlanPhases& phases);
cudaError_t append_phase(const PlanFuseUpwardParams& params, DType dtype, PlanPhases& phases);
cudaError_t append_phase(const PlanFuseDownwardParams& params, DType dtype, PlanPhases& phases);
cudaError_t append_phase(const PlanHeadConvolutionParams& params, DType dtype, PlanPhases& phases);

// One cooperative launch of `count` phases of the type `dtype`. `device_phases` is PlanPhases::bytes in memory of the
// current device, which nothing may change until the launch has ended. Returns cudaErrorInvalidValue for no phases and
// for fp64, which this kernel is not compiled for, else the launch's result.
cudaError_t launch_plan_persistent(const void* device_phases, int count, const LaunchShape& shape, DType dtype,
                                   cudaStream_t stream);

}  // namespace litehrnet
