// The launch of ResolutionGates. The maths and the mapping are in plan_resolution_gates.cuh.
#include "cuda/plan_resolution_gates.cuh"

namespace litehrnet {
namespace {

using plan_resolution_gates::kChunk;
using plan_resolution_gates::make_phase;
using plan_resolution_gates::Phase;
using plan_resolution_gates::run_tile_of;

constexpr int kThreads = 512;  // at batch 1 blocks are fewer than multiprocessors: each hides latency by itself

// Two blocks a multiprocessor (64 registers) once positions share weights; one position a block keeps more weights in
// flight instead.
template <class scalar_t, int kPositions>
__global__ void __launch_bounds__(kThreads, kPositions > 1 && sizeof(scalar_t) <= 4 ? 2 : 1)
    plan_resolution_gates_kernel(const __grid_constant__ Phase phase) {
  wait_for_launches_before();
  run_tile_of<scalar_t, kThreads, kPositions>(phase, static_cast<int>(blockIdx.x), dynamic_shared<unsigned char>());
}

}  // namespace

PlanResolutionGatesGeometry plan_resolution_gates_geometry(const PlanResolutionGatesParams& params, DType dtype) {
  return plan_resolution_gates::make_geometry(params, dtype, kThreads);
}

cudaError_t launch_plan_resolution_gates(const PlanResolutionGatesParams& params, DType dtype, cudaStream_t stream) {
  Phase phase;
  LaunchShape shape;
  const cudaError_t error = make_phase(params, dtype, kThreads, phase, shape);
  if (error != cudaSuccess || shape.blocks == 0) return error;
  return visit_dtype(dtype, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto kernel = phase.positions == 1 ? plan_resolution_gates_kernel<scalar_t, 1>
                                             : plan_resolution_gates_kernel<scalar_t, kChunk>;
    return launch_dependent(kernel, dim3(shape.blocks), dim3(kThreads), shape.shared_bytes, stream, phase);
  });
}

}  // namespace litehrnet
