// Small kernels, each correct, and wrong in one way when `bug` says so. The lines that a report must name carry the
// names of their bugs in a comment. For the emulator only: a device has no access to `bug`.
#include "core/platform.h"

using litehrnet::dynamic_shared;
using litehrnet::launch;
using litehrnet::launch_cooperative;

namespace {

enum Bug {
  NONE,
  MISSING_BARRIER,
  DIVERGENT_BARRIER,
  SKIPPED_BARRIER,
  CONDITIONAL_BARRIER,
  GLOBAL_READ,
  GLOBAL_WRITE,
  STATIC_SHARED,
  DYNAMIC_SHARED,
  MISALIGNED,
  UNINITIALISED_SHARED,
  UNINITIALISED_GLOBAL,
  BLOCKS_SHARE_A_SUM,
  MISSING_FENCE,
  MISSING_GRID_BARRIER,
  SHUFFLE_UNNAMED,
  SHUFFLE_EXITED,
  ABSENT_LANES,
  MISSING_SYNCWARP,
  SYNCWARP_OF_A_HALF,
  SHUFFLE_AS_BARRIER,
  DIVERGENT_SHUFFLE,
};

Bug bug = NONE;
constexpr int threads = 64;
constexpr unsigned all_lanes = 0xffffffffu;

}  // namespace

extern "C" void set_bug(int number) { bug = static_cast<Bug>(number); }

// y[b, i] = x[b, threads - 1 - i], through static shared memory.
__global__ void reverse_kernel(const float* x, float* y, int n) {
  __shared__ float tile[threads];
  const int i = threadIdx.x;
  const int offset = blockIdx.x * threads;
  const int source = bug == GLOBAL_READ ? n + offset + i : offset + i;
  if (bug != UNINITIALISED_SHARED || i != 7) tile[i] = x[source];  // GLOBAL_READ
  if (bug == DIVERGENT_BARRIER && i < 32) {
    __syncthreads();
  } else if (bug == SKIPPED_BARRIER && i == 40) {
    return;
  } else if (bug != MISSING_BARRIER) {
    __syncthreads();  // DIVERGENT_BARRIER, SKIPPED_BARRIER
  }
  const int from = bug == STATIC_SHARED ? threads - i : threads - 1 - i;
  const float value = tile[from];                                // MISSING_BARRIER, UNINITIALISED_SHARED, STATIC_SHARED
  y[bug == GLOBAL_WRITE ? offset + i + 1 : offset + i] = value;  // GLOBAL_WRITE
}

extern "C" int reverse(const float* x, float* y, int n) {
  return launch(reverse_kernel, n / threads, threads, 0, nullptr, x, y, n);
}

// The same through dynamic shared memory, of float4 where `n` is the number of floats.
__global__ void reverse_dynamic_kernel(const float* x, float* y) {
  float* tile = dynamic_shared<float>();
  const int i = threadIdx.x;
  const auto* source = reinterpret_cast<const float4*>(x + (bug == MISALIGNED ? 1 : 0)) + i;
  const float4 value = bug == MISALIGNED && i == threads - 1 ? float4{} : *source;  // MISALIGNED
  tile[4 * i] = value.x;
  tile[4 * i + 1] = value.y;
  tile[4 * i + 2] = value.z;
  tile[4 * i + (bug == DYNAMIC_SHARED ? 4 : 3)] = value.w;  // DYNAMIC_SHARED
  __syncthreads();
  for (int k = i; k < 4 * threads; k += threads) y[k] = tile[4 * threads - 1 - k];
}

extern "C" int reverse_dynamic(const float* x, float* y) {
  return launch(reverse_dynamic_kernel, 1, threads, 4 * threads * sizeof(float), nullptr, x, y);
}

// y[i] = 2 x[i], out of a buffer that one launch fills and the next one reads.
__global__ void copy_kernel(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = 2 * x[i];  // UNINITIALISED_GLOBAL
}

extern "C" int copy_twice(const float* x, float* between, float* y, int n) {
  const int filled = bug == UNINITIALISED_GLOBAL ? n - 1 : n;
  const int error = launch(copy_kernel, (n + 31) / 32, 32, 0, nullptr, x, between, filled);
  return error != 0 ? error : launch(copy_kernel, (n + 31) / 32, 32, 0, nullptr, between, y, n);
}

// sum[0] = x[0] + ... in a fixed order: the last block to finish adds up what the blocks have written.
__global__ void last_block_kernel(const float* x, float* parts, unsigned* ticket, float* sum) {
  __shared__ bool last;
  if (bug == BLOCKS_SHARE_A_SUM) {
    if (threadIdx.x == 0) sum[0] += x[blockIdx.x];  // BLOCKS_SHARE_A_SUM
    return;
  }
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = x[blockIdx.x];
    if (bug != MISSING_FENCE) __threadfence();
    last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || threadIdx.x != 1) return;
  float total = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) total += parts[b];  // MISSING_FENCE
  sum[0] = total;
}

extern "C" int last_block(const float* x, float* parts, unsigned* ticket, float* sum, int n) {
  return launch(last_block_kernel, n, 32, 0, nullptr, x, parts, ticket, sum);
}

// y[b] = x[b] + x[b + 1], through global memory and over a barrier of the grid.
__global__ void neighbours_kernel(const float* x, float* scratch, float* y) {
  const unsigned next = (blockIdx.x + 1) % gridDim.x;
  if (threadIdx.x == 0) scratch[blockIdx.x] = x[blockIdx.x];
  if (bug == MISSING_GRID_BARRIER) {
    __syncthreads();
  } else {
    cooperative_groups::this_grid().sync();
  }
  if (threadIdx.x == 0) y[blockIdx.x] = scratch[blockIdx.x] + scratch[next];  // MISSING_GRID_BARRIER
}

extern "C" int neighbours(const float* x, float* scratch, float* y, int n) {
  return launch_cooperative(neighbours_kernel, n, 32, 0, nullptr, x, scratch, y);
}

// y[i] = x[0] + ... + x[31] for all lanes.
__global__ void warp_sum_kernel(const float* x, float* y) {
  const unsigned lane = threadIdx.x;
  float value = x[lane];
  if (bug == SHUFFLE_EXITED && lane >= 16) return;
  for (int step = 16; step > 0; step /= 2) {
    const bool half = bug == SHUFFLE_UNNAMED;
    const unsigned mask = half ? (lane < 16 ? 0xffffu : 0xffff0000u) : all_lanes;
    if (bug == DIVERGENT_SHUFFLE && lane % 2 == 1) {
      value += __shfl_xor_sync(mask, value, step);
    } else {
      value += __shfl_xor_sync(mask, value, step);  // SHUFFLE_UNNAMED, SHUFFLE_EXITED, ABSENT_LANES, DIVERGENT_SHUFFLE
    }
    if (bug == CONDITIONAL_BARRIER && lane == 3) __syncthreads();  // CONDITIONAL_BARRIER
  }
  y[lane] = value;
}

extern "C" int warp_sum(const float* x, float* y) {
  return launch(warp_sum_kernel, 1, bug == ABSENT_LANES ? 24 : 32, 0, nullptr, x, y);
}

// y[i] = x[i ^ 16] within a warp, through shared memory.
__global__ void warp_exchange_kernel(const float* x, float* y) {
  __shared__ float tile[32];
  const unsigned lane = threadIdx.x;
  tile[lane] = x[lane];
  if (bug == SYNCWARP_OF_A_HALF) {
    __syncwarp(lane < 16 ? 0xffffu : 0xffff0000u);
  } else if (bug == SHUFFLE_AS_BARRIER) {
    __shfl_sync(all_lanes, lane, 0);
  } else if (bug != MISSING_SYNCWARP) {
    __syncwarp();
  }
  y[lane] = tile[lane ^ 16];  // MISSING_SYNCWARP, SYNCWARP_OF_A_HALF, SHUFFLE_AS_BARRIER
}

extern "C" int warp_exchange(const float* x, float* y) { return launch(warp_exchange_kernel, 1, 32, 0, nullptr, x, y); }

extern "C" const char* error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }
