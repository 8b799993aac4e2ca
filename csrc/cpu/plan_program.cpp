#include "cpu/plan_program.h"

#include <atomic>

#include "cpu/plan_steps.h"
#include "params/plan_reader.h"

namespace litehrnet::cpu {
namespace {

constexpr std::size_t kArenaAlignment = 256;

std::size_t arena_of(const PlanImages& images) { return round_up(images.arena_bytes, kArenaAlignment); }

// Images that every thread works on by itself: as many for each.
int alone(const PlanImages& images, int threads) { return images.count / threads * threads; }

void run_image(const PlanProgram& program, const PlanImages& images, int image, DType dtype, const Team& team) {
  PlanMemory memory = images.memory;
  memory.arena = team.scratch;
  memory.image = static_cast<const unsigned char*>(memory.image) + image * images.image_bytes;
  for (int i = 0; i < memory.outputs; ++i)
    memory.output[i] = static_cast<unsigned char*>(memory.output[i]) + image * images.output_bytes[i];
  PlanSteps steps{0, -1, 0};
  run_steps(program, memory, dtype, steps,
            {team.pool, team.threads, static_cast<unsigned char*>(team.scratch) + arena_of(images)});
}

}  // namespace

bool plan_scratch(const PlanProgram& program, const PlanImages& images, DType dtype, int threads, PlanSteps& steps,
                  PlanScratch* scratch) {
  PlanMemory memory = images.memory;
  memory.arena = reinterpret_cast<void*>(kArenaAlignment);  // some place, which is not looked at
  const std::size_t one = steps_scratch_bytes(program, memory, dtype, 1, steps);
  const std::size_t all = threads == 1 ? one : steps_scratch_bytes(program, memory, dtype, threads, steps);
  *scratch = {arena_of(images) + one, arena_of(images) + all};
  return one != 0;
}

std::size_t scratch_bytes(const PlanScratch& scratch, const PlanImages& images, int threads) {
  const int shared = images.count - alone(images, threads);
  return larger(shared < images.count ? scratch.alone * threads : 0, shared > 0 ? scratch.together : 0);
}

void run_images(const PlanProgram& program, const PlanImages& images, DType dtype, const PlanScratch& scratch,
                const Team& team) {
  const int own = alone(images, team.threads);
  // Threads take images as they become free: another program may hold one of them up.
  std::atomic<int> next{0};
  const auto work = [&](int thread) {
    void* memory = static_cast<unsigned char*>(team.scratch) + thread * scratch.alone;
    for (int image = next++; image < own; image = next++) run_image(program, images, image, dtype, {nullptr, 1, memory});
  };
  if (team.threads == 1) {
    work(0);
  } else if (own > 0) {
    team.pool->run(team.threads, [](void* context, int thread) { (*static_cast<decltype(&work)>(context))(thread); },
                   const_cast<void*>(static_cast<const void*>(&work)));
  }
  for (int image = own; image < images.count; ++image) run_image(program, images, image, dtype, team);
}

std::size_t steps_scratch_bytes(const PlanProgram& program, const PlanMemory& memory, DType dtype, int threads,
                                PlanSteps& steps) {
  std::size_t most = kScratchAlignment;
  const bool is_done = visit_steps(program, memory, dtype, steps, [&](const auto& params) {
    using Params = std::decay_t<decltype(params)>;
    most = larger(most, std::get<Step<Params>>(step_table()).scratch_bytes(params, dtype, threads));
    return true;
  });
  return is_done ? round_up(most, kArenaAlignment) : 0;
}

void run_steps(const PlanProgram& program, const PlanMemory& memory, DType dtype, PlanSteps& steps, const Team& team) {
  visit_steps(program, memory, dtype, steps, [&](const auto& params) {
    using Params = std::decay_t<decltype(params)>;
    for (int image = 0; image < memory.batch; ++image)
      std::get<Step<Params>>(step_table()).run(params, dtype, image, team);
    return true;
  });
}

}  // namespace litehrnet::cpu
