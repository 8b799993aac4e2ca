// The launches of a plan.
#pragma once

#include "cuda/plan_persistent.h"
#include "params/plan_program.h"

namespace litehrnet {

// One launch for each step. Returns cudaErrorInvalidValue for a program that visit_steps() refuses, or for sizes outside
// of a step's limits; else the launches' result.
cudaError_t launch_plan(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps,
                        cudaStream_t stream);

// The same steps as phases of one launch; the errors are those of launch_plan().
cudaError_t append_plan(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps,
                        PlanPhases& phases);

}  // namespace litehrnet
