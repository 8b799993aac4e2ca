// Adapter of _run_plan and _run_plan_steps: device, stream, launches.
#include "cuda/plan_program.h"

#include "ops/plan_arguments.h"

namespace litehrnet {
namespace {

// Runs steps `first` to `end` - 1, or to the last one if `end` is -1; `persistent`: all in one launch.
void run_steps(const char* op, const Tensor& images, const Tensor& constants, const Tensor& program,
               const Tensor& arena, const Tensors& outputs, int64_t first, int64_t end, bool persistent = false) {
  PlanMemory memory = plan_memory(op, images, constants, program, outputs);
  memory.arena = arena.mutable_data_ptr();
  const DType dtype = dtype_of(op, images);
  if (memory.batch == 0) return;
  const DeviceScope device(images);
  const PlanProgram code = plan_program(program);
  PlanSteps steps{static_cast<int>(first), static_cast<int>(end), 0};
  PlanPhases phases;
  cudaError_t error = persistent ? append_plan(code, memory, dtype, steps, phases)
                                 : launch_plan(code, memory, dtype, steps, device.stream());
  STD_TORCH_CHECK(error == cudaSuccess, op, ": step ", steps.failed, " could not be started: ",
                  cudaGetErrorString(error));
  if (!persistent) return;
  const Tensor copy = new_workspace(images, phases.bytes.size());
  error = copy_to_device(copy.mutable_data_ptr(), phases.bytes.data(), phases.bytes.size(), device.stream());
  if (error == cudaSuccess)
    error = launch_plan_persistent(copy.const_data_ptr(), phases.count, phases.shape, dtype, device.stream());
  STD_TORCH_CHECK(error == cudaSuccess, op, ": the one launch could not be started: ", cudaGetErrorString(error));
}

Tensors run_plan(Tensor images, Tensor constants, Tensor program, int64_t arena_bytes, std::vector<int64_t> shapes,
                 bool persistent) {
  constexpr const char* kOp = "_run_plan";
  const Tensors outputs = new_plan_outputs(kOp, images, shapes);
  const Tensor arena = new_workspace(images, static_cast<size_t>(std::max<int64_t>(arena_bytes, 0) * images.size(0)));
  run_steps(kOp, torch::stable::contiguous(images), constants, program, arena, outputs, 0, -1, persistent);
  return outputs;
}

// Parts of a plan, on memory of the caller's.
void run_plan_steps(Tensor images, Tensor constants, Tensor program, Tensor arena, Tensors outputs, int64_t first,
                    int64_t end) {
  run_steps("_run_plan_steps", images, constants, program, arena, outputs, first, end);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("_run_plan", TORCH_BOX(&run_plan));
  library.impl("_run_plan_steps", TORCH_BOX(&run_plan_steps));
}

}  // namespace litehrnet
