// All steps of a plan in one launch: every block does its share of a phase, then the whole grid waits
//
// Layout   phases one after the other in global memory: a head, then what the step's body reads. A block copies a phase
//          to shared memory before it waits for the end of the one before.
// Mapping  as many blocks of kThreads threads as fit on the device at once, and no more than the largest phase has
//          tiles. Block b takes tiles b, b + blocks, ... of every phase. Tiles are cut for kThreads threads: they may
//          differ from those of the step's own launch, and so may the order of sums.
// Traffic  that of the steps, and every block reads every phase, up to 4 KB, from L2.
// Memory   grid.sync() makes all that was written before it visible to what is read after it, by loads through the
//          coherent path: nothing that a phase writes may be read by __ldg() or through pointers that are
//          `const __restrict__`. The bodies have neither, and a test looks for such loads in the machine code.
// Sums     as in the steps: bitwise reproducible, whatever the number of blocks.
#pragma once

#define LITEHRNET_TILE_LOOP
#include "core/grid.cuh"
#include "cuda/plan_fuse_downward.cuh"
#include "cuda/plan_fuse_upward.cuh"
#include "cuda/plan_gated_depthwise.cuh"
#include "cuda/plan_head_convolution.cuh"
#include "cuda/plan_pointwise_convolution.cuh"
#include "cuda/plan_resolution_gates.cuh"
#include "cuda/plan_separable_convolution.cuh"
#include "cuda/plan_stem_convolution.cuh"
#include "params/plan_program.h"

namespace litehrnet::plan_persistent {

constexpr int kThreads = 256;
constexpr int kBlocks = 2;  // a multiprocessor: at most 128 registers, which ResolutionGates and FuseUpward need

// A phase follows its head.
struct alignas(kVecBytes) Head {
  PlanStepKind kind;
  int blocks;
  int bytes;  // of the phase, a multiple of kVecBytes
};

constexpr std::size_t kStagedBytes = 4096;  // of the largest phase, in front of the bodies' shared memory

// This block's tiles of the phase that is staged. Not inlined, because one function of all bodies takes the compiler
// twice as long.
template <class Phase, void (*kRunTile)(const Phase&, int, unsigned char*)>
__device__ __attribute__((noinline)) void run_tiles(int blocks) {
  static_assert(sizeof(Phase) <= kStagedBytes && alignof(Phase) <= kVecBytes, "phases fit");
  auto* shared = dynamic_shared<unsigned char>();
  const Phase& phase = *reinterpret_cast<const Phase*>(shared);
  for (int block = static_cast<int>(blockIdx.x); block < blocks; block += static_cast<int>(gridDim.x)) {
    kRunTile(phase, block, shared + kStagedBytes);
    __syncthreads();  // shared memory is free for the next tile, or phase
  }
}

template <class scalar_t>
__device__ __forceinline__ void run_phase(PlanStepKind kind, int blocks) {
#define LITEHRNET_RUN(step) return run_tiles<step::Phase, step::run_tile<scalar_t, kThreads>>(blocks)
  switch (kind) {
    case PlanStepKind::kStemConvolution: LITEHRNET_RUN(plan_stem_convolution);
    case PlanStepKind::kSeparableConvolution: LITEHRNET_RUN(plan_separable_convolution);
    case PlanStepKind::kPointwiseConvolution: LITEHRNET_RUN(plan_pointwise_convolution);
    case PlanStepKind::kResolutionGates: LITEHRNET_RUN(plan_resolution_gates);
    case PlanStepKind::kGatedDepthwise: LITEHRNET_RUN(plan_gated_depthwise);
    case PlanStepKind::kFuseUpward: LITEHRNET_RUN(plan_fuse_upward);
    case PlanStepKind::kFuseDownward: LITEHRNET_RUN(plan_fuse_downward);
    case PlanStepKind::kHeadConvolution: LITEHRNET_RUN(plan_head_convolution);
  }
#undef LITEHRNET_RUN
}

template <class scalar_t>
__global__ void __launch_bounds__(kThreads, kBlocks)
    plan_persistent_kernel(const unsigned char* phases, int count) {
  using Piece = Vec<std::uint32_t, kVecElems<std::uint32_t>>;
  const auto grid = cooperative_groups::this_grid();
  auto* staged = dynamic_shared<Piece>();
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    const Head head = *reinterpret_cast<const Head*>(phases);
    phases += sizeof(Head);
#pragma unroll 1
    for (int piece = thread_index(); piece < head.bytes / kVecBytes; piece += kThreads)
      staged[piece] = reinterpret_cast<const Piece*>(phases)[piece];
    phases += head.bytes;
    if (i > 0) {
      grid.sync();  // the phase before is over everywhere, and this one is staged
    } else {
      __syncthreads();  // the phase is staged
    }
    run_phase<scalar_t>(head.kind, head.blocks);
  }
}

// The launch for one element type. Every type has a source file of its own, which are compiled side by side.
template <class scalar_t>
cudaError_t launch_kernel(const void* device_phases, int count, const LaunchShape& shape, cudaStream_t stream) {
  const auto kernel = plan_persistent_kernel<scalar_t>;
  const std::size_t shared_bytes = kStagedBytes + shape.shared_bytes;
  // The same limit always: another thread may be about to launch the kernel.
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(kStagedBytes + kMaxSharedBytes));
  int device = 0, multiprocessors = 0, resident = 0;
  if (error == cudaSuccess) error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess)
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kThreads, shared_bytes);
  if (error != cudaSuccess) return error;
  const unsigned blocks = smaller(shape.blocks, static_cast<unsigned>(resident * multiprocessors));
  if (blocks == 0) return cudaErrorCooperativeLaunchTooLarge;
  return launch_cooperative(kernel, dim3(blocks), dim3(kThreads), shared_bytes, stream,
                            static_cast<const unsigned char*>(device_phases), count);
}

}  // namespace litehrnet::plan_persistent
