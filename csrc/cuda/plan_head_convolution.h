// Launchers of the step HeadConvolution of a plan for GPUs. The maths and the mapping are in plan_head_convolution.cuh.
#pragma once

#include "core/platform.h"
#include "params/plan_head_convolution.h"

namespace litehrnet {

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cuh file, else the launch's result.
cudaError_t launch_plan_head_convolution(const PlanHeadConvolutionParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
