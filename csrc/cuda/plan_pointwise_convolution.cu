// The launch of PointwiseConvolution. The maths and the mapping are in plan_pointwise_convolution.cuh.
#include "cuda/plan_pointwise_convolution.cuh"

namespace litehrnet {
namespace {

using plan_pointwise_convolution::make_phase;
using plan_pointwise_convolution::Phase;
using plan_pointwise_convolution::run_tile;

constexpr int kThreads = 128;
constexpr int kBlocks = 5;  // a multiprocessor: at most 96 registers, enough for code without spills everywhere

template <class scalar_t>
__global__ void __launch_bounds__(kThreads, sizeof(scalar_t) <= 4 ? kBlocks : 3)
    plan_pointwise_convolution_kernel(const __grid_constant__ Phase phase) {
  wait_for_launches_before();
  run_tile<scalar_t, kThreads>(phase, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

}  // namespace

cudaError_t launch_plan_pointwise_convolution(const PlanPointwiseParams& params, DType dtype, cudaStream_t stream) {
  Phase phase;
  LaunchShape shape;
  const cudaError_t error = make_phase(params, dtype, kThreads, phase, shape);
  if (error != cudaSuccess || shape.blocks == 0) return error;
  return visit_dtype(dtype, [&](auto zero) {
    return launch_dependent(plan_pointwise_convolution_kernel<decltype(zero)>, dim3(shape.blocks), dim3(kThreads),
                            shape.shared_bytes, stream, phase);
  });
}

}  // namespace litehrnet
