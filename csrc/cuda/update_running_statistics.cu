// update_running_statistics: running = (1 - momentum) running + momentum statistic, mean and unbiased variance of all
//                            batch norms of a block at once; the count of batches grows by one
//
// Layout   statistics [3, C], rows mean, biased, unbiased variance, C channels of all norms one after the other; float,
//          double where the running statistics are double. Running statistics of one type, computed in float or double.
// Mapping  thread = channel; a block belongs to one norm.
// Traffic  reads 2 C statistics, reads and writes 2 C running statistics: some kilobytes.
// Limits   kMaxNorms norms.
#include "cuda/update_running_statistics.h"

#include "core/elements.cuh"

namespace litehrnet {
namespace {

constexpr int kThreads = 128;

struct Plan {
  UpdateRunningStatisticsParams params;
  int first_block[kMaxNorms], first_column[kMaxNorms];
  int columns;
};

template <class scalar_t>
__device__ __forceinline__ void move_towards(void* running, int channel, acc_t<scalar_t> statistic,
                                             acc_t<scalar_t> momentum) {
  scalar_t& value = static_cast<scalar_t*>(running)[channel];
  value = from_acc<scalar_t>((1 - momentum) * to_acc(value) + momentum * statistic);
}

template <class scalar_t>
__global__ void __launch_bounds__(kThreads) update_running_statistics_kernel(const __grid_constant__ Plan plan) {
  using acc = acc_t<scalar_t>;
  const int block = static_cast<int>(blockIdx.x);
  int index = 0;
#pragma unroll
  for (int i = 1; i < kMaxNorms; ++i) index += i < plan.params.norms && block >= plan.first_block[i];
  const RunningStatistics& norm = plan.params.norm[index];
  const int channel = (block - plan.first_block[index]) * kThreads + static_cast<int>(threadIdx.x);
  if (channel == 0 && norm.batches != nullptr) ++*norm.batches;
  if (channel >= norm.channels) return;
  const acc* statistics = static_cast<const acc*>(plan.params.statistics) + plan.first_column[index] + channel;
  const auto momentum = static_cast<acc>(plan.params.momentum);
  move_towards<scalar_t>(norm.mean, channel, statistics[0], momentum);
  move_towards<scalar_t>(norm.variance, channel, statistics[2 * plan.columns], momentum);
}

}  // namespace

cudaError_t launch_update_running_statistics(const UpdateRunningStatisticsParams& params, DType dtype,
                                             cudaStream_t stream) {
  if (params.norms < 1 || params.norms > kMaxNorms) return cudaErrorInvalidValue;
  Plan plan{};
  plan.params = params;
  int blocks = 0;
  for (int i = 0; i < params.norms; ++i) {
    if (params.norm[i].channels < 1) return cudaErrorInvalidValue;
    plan.first_block[i] = blocks;
    plan.first_column[i] = plan.columns;
    blocks += ceil_div(params.norm[i].channels, kThreads);
    plan.columns += params.norm[i].channels;
  }
  return visit_dtype(dtype, [&](auto zero) {
    return launch(update_running_statistics_kernel<decltype(zero)>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
                  0, stream, plan);
  });
}

}  // namespace litehrnet
