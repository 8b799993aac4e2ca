// The launch of GatedDepthwise. The maths and the mapping are in plan_gated_depthwise.cuh.
#include <type_traits>

#include "cuda/plan_gated_depthwise.cuh"

namespace litehrnet {
namespace {

using plan_gated_depthwise::make_phase;
using plan_gated_depthwise::Phase;
using plan_gated_depthwise::run_tile;

constexpr int kThreads = 64;  // as in depthwise_conv.cu, where it was simulated for tiles of 384 pixels

// A multiprocessor, at least. Conversions of bf16 take registers, and architecture 9.0 would spill others for ten.
template <class scalar_t>
constexpr int kBlocks = std::is_same_v<scalar_t, __nv_bfloat16> ? 8 : 10;

template <class scalar_t>
__global__ void __launch_bounds__(kThreads, kBlocks<scalar_t>)
    plan_gated_depthwise_kernel(const __grid_constant__ Phase phase) {
  wait_for_launches_before();
  run_tile<scalar_t, kThreads>(phase, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

}  // namespace

cudaError_t launch_plan_gated_depthwise(const PlanGatedDepthwiseParams& params, DType dtype, cudaStream_t stream) {
  Phase phase;
  LaunchShape shape;
  const cudaError_t error = make_phase(params, dtype, kThreads, phase, shape);
  if (error != cudaSuccess || shape.blocks == 0) return error;
  return visit_dtype(dtype, [&](auto zero) {
    return launch_dependent(plan_gated_depthwise_kernel<decltype(zero)>, dim3(shape.blocks), dim3(kThreads),
                            shape.shared_bytes, stream, phase);
  });
}

}  // namespace litehrnet
