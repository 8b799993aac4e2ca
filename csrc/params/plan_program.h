// A plan as a list of numbers, which litehrnet_cuda/plan/program.py writes.
#pragma once

#include "core/planes.h"

namespace litehrnet {

// In the order of STEPS in litehrnet_cuda/plan/steps.py.
enum class PlanStepKind : int {
  kStemConvolution,
  kSeparableConvolution,
  kPointwiseConvolution,
  kResolutionGates,
  kGatedDepthwise,
  kFuseUpward,
  kFuseDownward,
  kHeadConvolution,
};

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

// Which steps to run, and the one that stopped it all.
struct PlanSteps {
  int first, end;  // end: one behind the last; -1: all that there are
  int failed;      // set where an error is returned
};

}  // namespace litehrnet
