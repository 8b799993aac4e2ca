// A plan as a list of numbers, which litehrnet_cuda/plan/program.py writes, and its launches.
#pragma once

#include "core/planes.h"
#include "cuda/plan_persistent.h"

namespace litehrnet {

constexpr int kMaxPlanOutputs = kMaxBranches;

// Where the operands of a plan are. The numbers in a program are relative to these.
struct PlanMemory {
  const void* constants;                 // weights and tables, at a multiple of 16 bytes
  std::int64_t constants_bytes;
  void* arena;                           // at a multiple of 256 bytes
  const void* image;                     // [N, channels, height, width]
  void* output[kMaxPlanOutputs];         // [N, channels, height, width] each
  int outputs, batch;
};

// One step of a program after the other: its kind, the count of the numbers that follow, and those.
struct PlanProgram {
  const std::int64_t* code;
  std::int64_t length;
};

// Which steps to launch, and the one that stopped it all.
struct PlanSteps {
  int first, end;  // end: one behind the last; -1: all that there are
  int failed;      // set where an error is returned
};

// The launches of a plan's steps, one each. Returns cudaErrorInvalidValue for a program that is no such list or says of
// its operands what cannot be, or for sizes outside of a step's limits; else the launches' result. What tables say, and
// places in the arena and the outputs, are believed.
cudaError_t launch_plan(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps,
                        cudaStream_t stream);

// The same steps as phases of one launch; the errors are those of launch_plan().
cudaError_t append_plan(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps,
                        PlanPhases& phases);

}  // namespace litehrnet
