// A plan's forward pass on the CPU.
#pragma once

#include "cpu/team.h"
#include "params/plan_program.h"

namespace litehrnet::cpu {

// Images that follow one another in memory, and so do their outputs.
struct PlanImages {
  PlanMemory memory;  // of the first one, with a batch of one and no arena
  std::size_t arena_bytes, image_bytes, output_bytes[kMaxPlanOutputs];  // of one image
  int count;
};

// Bytes of scratch memory, arenas included.
struct PlanScratch {
  std::size_t alone;     // of a thread that works on an image by itself
  std::size_t together;  // of all threads, working on one image
};

// For run_images() with so many threads. False for a program that visit_steps() refuses.
bool plan_scratch(const PlanProgram& program, const PlanImages& images, DType dtype, int threads, PlanSteps& steps,
                  PlanScratch* scratch);
std::size_t scratch_bytes(const PlanScratch& scratch, const PlanImages& images, int threads);

// Runs all steps for all images. Every thread works on images of its own, in an arena that stays in its caches; those
// that are left over, fewer than threads, are worked on by all of them. Results do not depend on that bit by bit.
void run_images(const PlanProgram& program, const PlanImages& images, DType dtype, const PlanScratch& scratch,
                const Team& team);

// Bytes of scratch memory for run_steps(), 0 for a program that visit_steps() refuses.
std::size_t steps_scratch_bytes(const PlanProgram& program, const PlanMemory& memory, DType dtype, int threads,
                                PlanSteps& steps);

// Runs steps for a batch in one arena.
void run_steps(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps, const Team& team);

}  // namespace litehrnet::cpu
