// One kernel per part of CUDA's language, for tests that compare with Python.
#include "core/platform.h"

using litehrnet::dynamic_shared;
using litehrnet::launch;
using litehrnet::launch_cooperative;

namespace {

constexpr unsigned all_lanes = 0xffffffffu;

}  // namespace

// ---- half types

template <class T>
__global__ void arithmetic_kernel(const T* a, const T* b, const T* c, T* results, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  results[i] = a[i] + b[i];
  results[n + i] = a[i] - b[i];
  results[2 * n + i] = a[i] * b[i];
  results[3 * n + i] = a[i] / b[i];
  results[4 * n + i] = __hfma(a[i], b[i], c[i]);
}

extern "C" int half_arithmetic(const __half* a, const __half* b, const __half* c, __half* results, int n) {
  return launch(arithmetic_kernel<__half>, (n + 255) / 256, 256, 0, nullptr, a, b, c, results, n);
}

extern "C" int bfloat16_arithmetic(const __nv_bfloat16* a, const __nv_bfloat16* b, const __nv_bfloat16* c,
                                   __nv_bfloat16* results, int n) {
  return launch(arithmetic_kernel<__nv_bfloat16>, (n + 255) / 256, 256, 0, nullptr, a, b, c, results, n);
}

template <class T>
__global__ void convert_kernel(const float* x, const T* h, T* narrowed, float* widened, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  narrowed[i] = T(x[i]);
  widened[i] = static_cast<float>(h[i]);
}

extern "C" int half_conversions(const float* x, const __half* h, __half* narrowed, float* widened, int n) {
  return launch(convert_kernel<__half>, (n + 255) / 256, 256, 0, nullptr, x, h, narrowed, widened, n);
}

extern "C" int bfloat16_conversions(const float* x, const __nv_bfloat16* h, __nv_bfloat16* narrowed, float* widened,
                                    int n) {
  return launch(convert_kernel<__nv_bfloat16>, (n + 255) / 256, 256, 0, nullptr, x, h, narrowed, widened, n);
}

__global__ void double_to_half_kernel(const double* x, __half* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __double2half(x[i]);
}

extern "C" int double_to_half(const double* x, __half* y, int n) {
  return launch(double_to_half_kernel, (n + 255) / 256, 256, 0, nullptr, x, y, n);
}

// ---- warp collectives: one row of `results` per function

__global__ void collectives_kernel(const int* x, const int* lane_argument, int width, int* results) {
  const int lane = threadIdx.x;
  const int v = x[lane];
  const int argument = lane_argument[lane];
  int row = 0;
  const auto put = [&](int value) { results[32 * row++ + lane] = value; };
  put(__shfl_sync(all_lanes, v, argument, width));
  put(__shfl_up_sync(all_lanes, v, lane_argument[0] & 31, width));
  put(__shfl_down_sync(all_lanes, v, lane_argument[0] & 31, width));
  put(__shfl_xor_sync(all_lanes, v, lane_argument[0] & (width - 1), width));
  put(static_cast<int>(__ballot_sync(all_lanes, v % 2)));
  put(__any_sync(all_lanes, v == x[5]));
  put(__all_sync(all_lanes, v >= -1000));
  put(static_cast<int>(__match_any_sync(all_lanes, v % 4)));
  int same = 0;
  put(static_cast<int>(__match_all_sync(all_lanes, v, &same)));
  put(same);
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  put(__reduce_add_sync(all_lanes, v));
  put(__reduce_min_sync(all_lanes, v));
  put(__reduce_max_sync(all_lanes, v));
  put(static_cast<int>(__reduce_max_sync(all_lanes, static_cast<unsigned>(v))));
  put(static_cast<int>(__reduce_xor_sync(all_lanes, static_cast<unsigned>(v))));
#endif
}

extern "C" int collectives(const int* x, const int* lane_argument, int width, int* results) {
  return launch(collectives_kernel, 1, 32, 0, nullptr, x, lane_argument, width, results);
}

// Types of 2, 4 and 8 bytes, through a tile of 8 lanes: y[i] = x[i ^ 3].
template <class T>
__global__ void tile_kernel(const T* x, T* y, int* ranks) {
  const auto tile = cooperative_groups::tiled_partition<8>(cooperative_groups::this_thread_block());
  y[threadIdx.x] = tile.shfl_xor(x[threadIdx.x], 3);
  ranks[threadIdx.x] = static_cast<int>(tile.meta_group_rank() * 100 + tile.thread_rank());
}

extern "C" int tile_half(const __half* x, __half* y, int* ranks) {
  return launch(tile_kernel<__half>, 1, 48, 0, nullptr, x, y, ranks);
}

extern "C" int tile_double(const double* x, double* y, int* ranks) {
  return launch(tile_kernel<double>, 1, 48, 0, nullptr, x, y, ranks);
}

// results: count, or, and of x[i] != 0 over the block
__global__ void block_votes_kernel(const int* x, int* results) {
  const int predicate = x[threadIdx.x];
  const int count = __syncthreads_count(predicate);
  const int any = __syncthreads_or(predicate);
  const int all = __syncthreads_and(predicate);
  if (threadIdx.x == blockDim.x - 1) {
    results[0] = count;
    results[1] = any;
    results[2] = all;
  }
}

extern "C" int block_votes(const int* x, int* results, int n) {
  return launch(block_votes_kernel, 1, n, 0, nullptr, x, results);
}

// ---- atomics: all threads of all blocks on the same few words

__global__ void atomics_kernel(int* words, float* sum, double* precise, unsigned long long* wide) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&words[0], i);
  atomicSub(&words[1], i);
  atomicMax(&words[2], i);
  atomicMin(&words[3], -i);
  atomicOr(&words[4], 1 << (i % 20));
  atomicAnd(&words[5], ~(1 << (i % 20)));
  atomicXor(&words[6], i);
  atomicInc(reinterpret_cast<unsigned*>(&words[7]), 99u);
  int old = atomicAdd(&words[8], 0);
  for (int assumed = old + 1; assumed != old;) {  // compare and swap until nobody came between
    assumed = old;
    old = atomicCAS(&words[8], assumed, assumed + 2);
  }
  atomicExch(&words[9], 7);
  atomicAdd(sum, 0.5f);
  atomicAdd(precise, 0.25);
  atomicAdd(wide, 1ull << 33);
}

extern "C" int atomics(int* words, float* sum, double* precise, unsigned long long* wide, int blocks, int threads) {
  return launch(atomics_kernel, blocks, threads, 0, nullptr, words, sum, precise, wide);
}

// ---- the grid: y[b] = what the next block wrote in the step before, `steps` times, with shared memory that must last

__global__ void rotate_kernel(int* scratch, int* y, int steps) {
  __shared__ int kept;
  int* rotated = dynamic_shared<int>();
  const auto grid = cooperative_groups::this_grid();
  const int blocks = static_cast<int>(gridDim.x);
  const int b = static_cast<int>(blockIdx.x);
  if (threadIdx.x == 0) {
    kept = b;
    rotated[0] = b;
  }
  for (int step = 0; step < steps; ++step) {
    if (threadIdx.x == 0) scratch[b] = rotated[0];
    grid.sync();
    if (threadIdx.x == 0) rotated[0] = scratch[(b + 1) % blocks];
    grid.sync();
  }
  if (threadIdx.x == 1) y[b] = 1000 * rotated[0] + kept;
}

extern "C" int rotate(int* scratch, int* y, int steps, int blocks) {
  return launch_cooperative(rotate_kernel, blocks, 64, sizeof(int), nullptr, scratch, y, steps);
}

extern "C" int resident_blocks(int threads, int shared_bytes) {
  int blocks = 0;
  int multiprocessors = 0;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, rotate_kernel, threads, shared_bytes);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0);
  return blocks * multiprocessors;
}

// ---- launches

struct Shape {
  int values[5];
};

__global__ void parameters_kernel(const __grid_constant__ Shape shape, double scale, short offset, double* y) {
  const unsigned i = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  y[i] = shape.values[i % 5] * scale + offset + 100 * threadIdx.z;
}

extern "C" int parameters(double* y) {
  return launch(parameters_kernel, dim3(1), dim3(5, 2, 3), 0, nullptr, Shape{{1, 2, 3, 4, 5}}, 2, 7, y);
}

__global__ void nothing_kernel() {}

extern "C" int launch_nothing(int gx, int gy, int gz, int bx, int by, int bz, int shared_bytes) {
  return launch(nothing_kernel, dim3(gx, gy, gz), dim3(bx, by, bz), shared_bytes, nullptr);
}

extern "C" int allow_shared(int bytes) {
  return cudaFuncSetAttribute(nothing_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

extern "C" int last_error() { return cudaGetLastError(); }

extern "C" int counted_launches() { return static_cast<int>(litehrnet::launch_count.load()); }

// order[k] = the k-th thread that came
__global__ void order_kernel(unsigned* next, int* order) {
  order[atomicAdd(next, 1u)] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

extern "C" int thread_order(unsigned* next, int* order, int blocks, int threads) {
  return launch(order_kernel, blocks, threads, 0, nullptr, next, order);
}

// ---- memory traffic

__global__ void strided_kernel(const float* x, float* y, int stride) {
  y[threadIdx.x] = x[threadIdx.x * stride];
}

extern "C" int strided(const float* x, float* y, int stride) {
  return launch(strided_kernel, 1, 32, 0, nullptr, x, y, stride);
}

__global__ void vector_kernel(const float4* x, float4* y) { y[threadIdx.x] = x[threadIdx.x]; }

extern "C" int vectors(const float4* x, float4* y) { return launch(vector_kernel, 1, 32, 0, nullptr, x, y); }

__global__ void banks_kernel(float* y, int stride) {
  __shared__ float tile[32 * 33];
  tile[threadIdx.x * stride] = 1;
  __syncwarp();
  y[threadIdx.x] = tile[(31 - threadIdx.x) * stride];
}

extern "C" int banks(float* y, int stride) { return launch(banks_kernel, 1, 32, 0, nullptr, y, stride); }
