// The phases of a launch for all steps of a plan: host code alone. The kernel is in plan_persistent_kernel.cuh.
#include "cuda/plan_persistent.h"

#include <cstring>
#include <type_traits>

#include "cuda/plan_persistent_kernel.cuh"

namespace litehrnet {
namespace {

using plan_persistent::Head;

template <class Params, class Phase>
cudaError_t append(PlanStepKind kind, cudaError_t (*make_phase)(const Params&, DType, int, Phase&, LaunchShape&),
                   const Params& params, DType dtype, PlanPhases& phases) {
  static_assert(std::is_trivially_copyable_v<Phase>, "phases are copied byte by byte");
  Phase phase;
  LaunchShape shape;
  const cudaError_t error = make_phase(params, dtype, plan_persistent::kThreads, phase, shape);
  if (error != cudaSuccess || shape.blocks == 0) return error;
  const std::size_t at = phases.bytes.size(), bytes = round_up<std::size_t>(sizeof(Phase), kVecBytes);
  const Head head{kind, static_cast<int>(shape.blocks), static_cast<int>(bytes)};
  phases.bytes.resize(at + sizeof(Head) + bytes);
  std::memcpy(phases.bytes.data() + at, &head, sizeof(Head));
  std::memcpy(phases.bytes.data() + at + sizeof(Head), &phase, sizeof(Phase));
  ++phases.count;
  phases.shape.blocks = larger(phases.shape.blocks, shape.blocks);
  phases.shape.shared_bytes = larger(phases.shape.shared_bytes, shape.shared_bytes);
  return cudaSuccess;
}

}  // namespace

cudaError_t append_phase(const PlanStemParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kStemConvolution, plan_stem_convolution::make_phase, params, dtype, phases);
}

cudaError_t append_phase(const PlanSeparableParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kSeparableConvolution, plan_separable_convolution::make_phase, params, dtype, phases);
}

cudaError_t append_phase(const PlanPointwiseParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kPointwiseConvolution, plan_pointwise_convolution::make_phase, params, dtype, phases);
}

cudaError_t append_phase(const PlanResolutionGatesParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kResolutionGates, plan_resolution_gates::make_phase, params, dtype, phases);
}

cudaError_t append_phase(const PlanGatedDepthwiseParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kGatedDepthwise, plan_gated_depthwise::make_phase, params, dtype, phases);
}

cudaError_t append_phase(const PlanFuseUpwardParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kFuseUpward, plan_fuse_upward::make_phase, params, dtype, phases);
}

cudaError_t append_phase(const PlanFuseDownwardParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kFuseDownward, plan_fuse_downward::make_phase, params, dtype, phases);
}

cudaError_t append_phase(const PlanHeadConvolutionParams& params, DType dtype, PlanPhases& phases) {
  return append(PlanStepKind::kHeadConvolution, plan_head_convolution::make_phase, params, dtype, phases);
}

// Defined in the types' own source files.
extern template cudaError_t plan_persistent::launch_kernel<float>(const void*, int, const LaunchShape&, cudaStream_t);
extern template cudaError_t plan_persistent::launch_kernel<__half>(const void*, int, const LaunchShape&, cudaStream_t);
extern template cudaError_t plan_persistent::launch_kernel<__nv_bfloat16>(const void*, int, const LaunchShape&,
                                                                          cudaStream_t);

cudaError_t launch_plan_persistent(const void* device_phases, int count, const LaunchShape& shape, DType dtype,
                                   cudaStream_t stream) {
  if (count < 1 || shape.blocks == 0 || shape.shared_bytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  switch (dtype) {
    case DType::kFloat32: return plan_persistent::launch_kernel<float>(device_phases, count, shape, stream);
    case DType::kFloat16: return plan_persistent::launch_kernel<__half>(device_phases, count, shape, stream);
    case DType::kBFloat16: return plan_persistent::launch_kernel<__nv_bfloat16>(device_phases, count, shape, stream);
    case DType::kFloat64: break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace litehrnet
