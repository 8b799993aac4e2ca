// Launchers of the step FuseDownward of a plan for GPUs. The maths and the mapping are in plan_fuse_downward.cuh.
#pragma once

#include "core/platform.h"
#include "params/plan_fuse_downward.h"

namespace litehrnet {

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cuh file, else the launch's result.
cudaError_t launch_plan_fuse_downward(const PlanFuseDownwardParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
