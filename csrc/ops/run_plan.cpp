// Adapter of _run_plan and _run_plan_steps: checks, allocation, device and stream.
#include "cuda/plan_program.h"

#include <algorithm>

#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

// Runs steps `first` to `end` - 1, or to the last one if `end` is -1; `persistent`: all in one launch.
void run_steps(const char* op, const Tensor& images, const Tensor& constants, const Tensor& program,
               const Tensor& arena, const Tensors& outputs, int64_t first, int64_t end, bool persistent = false) {
  STD_TORCH_CHECK(images.dim() == 4 && images.is_contiguous(), op, ": images: expected contiguous [N, C, H, W], got ",
                  shape_text(images.sizes()));
  STD_TORCH_CHECK(images.size(0) <= kMaxGrid, op, ": images: expected fewer, got ", images.size(0));
  STD_TORCH_CHECK(constants.scalar_type() == ScalarType::Byte && constants.dim() == 1 && constants.is_contiguous(), op,
                  ": constants: expected contiguous uint8 [B], got shape ", shape_text(constants.sizes()));
  check_device_like(op, "constants", constants, images, "images");
  STD_TORCH_CHECK(program.scalar_type() == ScalarType::Long && program.dim() == 1 && program.is_contiguous() &&
                      !program.is_cuda(),
                  op, ": program: expected contiguous int64 [P] on the CPU, got shape ", shape_text(program.sizes()));
  STD_TORCH_CHECK(outputs.size() <= kMaxPlanOutputs, op, ": expected at most ", kMaxPlanOutputs,
                  " outputs, got ", outputs.size());
  PlanMemory memory{};
  memory.constants = constants.const_data_ptr();
  memory.constants_bytes = constants.numel();
  memory.arena = arena.mutable_data_ptr();
  memory.image = images.const_data_ptr();
  memory.outputs = static_cast<int>(outputs.size());
  memory.batch = static_cast<int>(images.size(0));
  for (size_t i = 0; i < outputs.size(); ++i) memory.output[i] = outputs[i].mutable_data_ptr();
  const DType dtype = dtype_of(op, images);
  if (memory.batch == 0) return;
  const DeviceScope device(images);
  const PlanProgram code{static_cast<const std::int64_t*>(program.const_data_ptr()), program.numel()};
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

// `shapes` are channels, height and width of every output, one after the other.
Tensors run_plan(Tensor images, Tensor constants, Tensor program, int64_t arena_bytes, std::vector<int64_t> shapes,
                 bool persistent) {
  constexpr const char* kOp = "_run_plan";
  STD_TORCH_CHECK(images.dim() == 4, kOp, ": images: expected [N, C, H, W], got ", shape_text(images.sizes()));
  const Tensor arena = new_workspace(images, static_cast<size_t>(std::max<int64_t>(arena_bytes, 0) * images.size(0)));
  Tensors outputs;
  for (size_t i = 0; i + 2 < shapes.size(); i += 3) {
    const int64_t sizes[4] = {images.size(0), shapes[i], shapes[i + 1], shapes[i + 2]};
    outputs.push_back(torch::stable::new_empty(images, {sizes, 4}, std::nullopt, std::nullopt, std::nullopt,
                                               std::nullopt));
  }
  run_steps(kOp, torch::stable::contiguous(images), constants, program, arena, outputs, 0, -1, persistent);
  return outputs;
}

// Parts of a plan, on memory of the caller's.
void run_plan_steps(Tensor images, Tensor constants, Tensor program, Tensor arena, Tensors outputs, int64_t first,
                    int64_t end) {
  run_steps("_run_plan_steps", images, constants, program, arena, outputs, first, end);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(litehrnet_cuda, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("_run_plan", TORCH_BOX(&run_plan));
  library.impl("_run_plan_steps", TORCH_BOX(&run_plan_steps));
}

}  // namespace litehrnet
