// Launchers of the step SeparableConvolution of a plan for GPUs. The maths and the mapping are in
// plan_separable_convolution.cuh.
#pragma once

#include "core/platform.h"
#include "params/plan_separable_convolution.h"

namespace litehrnet {

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cuh file, else the launch's result.
cudaError_t launch_plan_separable_convolution(const PlanSeparableParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
