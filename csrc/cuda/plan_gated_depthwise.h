// Launchers of the step GatedDepthwise of a plan for GPUs. The maths and the mapping are in plan_gated_depthwise.cuh.
#pragma once

#include "core/platform.h"
#include "params/plan_gated_depthwise.h"

namespace litehrnet {

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cuh file, else the launch's result.
cudaError_t launch_plan_gated_depthwise(const PlanGatedDepthwiseParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
