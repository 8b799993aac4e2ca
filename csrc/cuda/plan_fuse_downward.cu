// The launch of FuseDownward. The maths and the mapping are in plan_fuse_downward.cuh.
#include "cuda/plan_fuse_downward.cuh"

namespace litehrnet {
namespace {

using plan_fuse_downward::make_phase;
using plan_fuse_downward::Phase;
using plan_fuse_downward::run_tile;

constexpr int kThreads = 256;

template <class scalar_t>
__global__ void __launch_bounds__(kThreads, sizeof(scalar_t) <= 4 ? 2 : 1)
    plan_fuse_downward_kernel(const __grid_constant__ Phase phase) {
  wait_for_launches_before();
  run_tile<scalar_t, kThreads>(phase, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

}  // namespace

cudaError_t launch_plan_fuse_downward(const PlanFuseDownwardParams& params, DType dtype, cudaStream_t stream) {
  Phase phase;
  LaunchShape shape;
  const cudaError_t error = make_phase(params, dtype, kThreads, phase, shape);
  if (error != cudaSuccess || shape.blocks == 0) return error;
  return visit_dtype(dtype, [&](auto zero) {
    return launch_dependent(plan_fuse_downward_kernel<decltype(zero)>, dim3(shape.blocks), dim3(kThreads),
                            shape.shared_bytes, stream, phase);
  });
}

}  // namespace litehrnet
