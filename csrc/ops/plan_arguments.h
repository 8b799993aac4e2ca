// Arguments of _run_plan and _run_plan_steps on any device: checks, allocation.
#pragma once

#include <algorithm>

#include "ops/feature_maps.h"
#include "params/plan_program.h"

namespace litehrnet {

// Where the operands are, of contiguous images and outputs and with an arena of the whole batch, if there is one.
inline PlanMemory plan_memory(const char* op, const Tensor& images, const Tensor& constants, const Tensor& program,
                              const Tensors& outputs) {
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
  memory.image = images.const_data_ptr();
  memory.outputs = static_cast<int>(outputs.size());
  memory.batch = static_cast<int>(images.size(0));
  for (size_t i = 0; i < outputs.size(); ++i) memory.output[i] = outputs[i].mutable_data_ptr();
  return memory;
}

inline PlanProgram plan_program(const Tensor& program) {
  return {static_cast<const std::int64_t*>(program.const_data_ptr()), program.numel()};
}

// `shapes` are channels, height and width of every output, one after the other.
inline Tensors new_plan_outputs(const char* op, const Tensor& images, const std::vector<int64_t>& shapes) {
  STD_TORCH_CHECK(images.dim() == 4, op, ": images: expected [N, C, H, W], got ", shape_text(images.sizes()));
  Tensors outputs;
  for (size_t i = 0; i + 2 < shapes.size(); i += 3) {
    const int64_t sizes[4] = {images.size(0), shapes[i], shapes[i + 1], shapes[i + 2]};
    outputs.push_back(torch::stable::new_empty(images, {sizes, 4}, std::nullopt, std::nullopt, std::nullopt,
                                               std::nullopt));
  }
  return outputs;
}

}  // namespace litehrnet
