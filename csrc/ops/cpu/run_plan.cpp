// Adapter of _run_plan and _run_plan_steps on the CPU: threads and memory. `persistent` is a matter of GPUs, and nothing
// here.
#include "cpu/plan_program.h"
#include "ops/cpu/torch_pool.h"
#include "ops/plan_arguments.h"

namespace litehrnet {
namespace {

void check_steps(const char* op, bool is_done, const PlanSteps& steps) {
  STD_TORCH_CHECK(is_done, op, ": step ", steps.failed, " could not be started: invalid argument");
}

Tensors run_plan(Tensor images, Tensor constants, Tensor program, int64_t arena_bytes, std::vector<int64_t> shapes,
                 bool) {
  constexpr const char* kOp = "_run_plan";
  const Tensors outputs = new_plan_outputs(kOp, images, shapes);
  const Tensor input = torch::stable::contiguous(images);
  const DType dtype = dtype_of(kOp, input);
  cpu::PlanImages batch{};
  batch.memory = plan_memory(kOp, input, constants, program, outputs);
  batch.count = batch.memory.batch;
  if (batch.count == 0) return outputs;
  batch.memory.batch = 1;
  batch.arena_bytes = static_cast<size_t>(std::max<int64_t>(arena_bytes, 0));
  const auto bytes_of_one = [&](const Tensor& x) { return x.numel() / batch.count * element_size(dtype); };
  batch.image_bytes = bytes_of_one(input);
  for (size_t i = 0; i < outputs.size(); ++i) batch.output_bytes[i] = bytes_of_one(outputs[i]);
  const PlanProgram code = plan_program(program);
  const int threads = pool_threads();
  PlanSteps steps{0, -1, 0};
  cpu::PlanScratch scratch{};
  check_steps(kOp, cpu::plan_scratch(code, batch, dtype, threads, steps, &scratch), steps);
  TorchPool pool;
  const KeptScratch memory(cpu::scratch_bytes(scratch, batch, threads), threads);  // arenas too
  cpu::run_images(code, batch, dtype, scratch, {&pool, threads, memory.memory()});
  return outputs;
}

// Parts of a plan, on memory of the caller's.
void run_plan_steps(Tensor images, Tensor constants, Tensor program, Tensor arena, Tensors outputs, int64_t first,
                    int64_t end) {
  constexpr const char* kOp = "_run_plan_steps";
  PlanMemory memory = plan_memory(kOp, images, constants, program, outputs);
  memory.arena = arena.mutable_data_ptr();
  const DType dtype = dtype_of(kOp, images);
  if (memory.batch == 0) return;
  const PlanProgram code = plan_program(program);
  const int threads = pool_threads();
  PlanSteps steps{static_cast<int>(first), static_cast<int>(end), 0};
  const std::size_t bytes = cpu::steps_scratch_bytes(code, memory, dtype, threads, steps);
  check_steps(kOp, bytes != 0, steps);
  TorchPool pool;
  const KeptScratch scratch(bytes, threads);
  cpu::run_steps(code, memory, dtype, steps, {&pool, threads, scratch.memory()});
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(litehrnet_cuda, CPU, library) {
  library.impl("_run_plan", TORCH_BOX(&run_plan));
  library.impl("_run_plan_steps", TORCH_BOX(&run_plan_steps));
}

}  // namespace litehrnet
