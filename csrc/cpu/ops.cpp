// Chooses the kernels of ops for what the processor can do. Compiled for any processor.
#include "cpu/ops.h"

#include "core/cpu_capability.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu {

#if defined(__x86_64__)
#define LITEHRNET_CPU_CHOOSE(call)                                        \
  switch (cpu_capability()) {                                             \
    case CpuCapability::kAvx512: return avx512::call;                     \
    case CpuCapability::kAvx2: return avx2::call;                         \
    default: return baseline::call;                                       \
  }
#else
#define LITEHRNET_CPU_CHOOSE(call) return baseline::call;
#endif

#define LITEHRNET_CPU_DEFINE(name, Params)                                              \
  template <>                                                                           \
  std::size_t scratch_bytes<Params>(const Params& params, DType dtype, int threads) {   \
    LITEHRNET_CPU_CHOOSE(name##_scratch(params, dtype, threads))                        \
  }                                                                                     \
  template <>                                                                           \
  void run<Params>(const Params& params, DType dtype, const Team& team) {               \
    LITEHRNET_CPU_CHOOSE(name(params, dtype, team))                                     \
  }

LITEHRNET_CPU_DEFINE(cross_resolution_weighting, CrossResolutionWeightingParams)
LITEHRNET_CPU_DEFINE(depthwise_conv, DepthwiseConvParams)
LITEHRNET_CPU_DEFINE(conditional_channel_weighting, ConditionalChannelWeightingParams)
LITEHRNET_CPU_DEFINE(cross_resolution_weighting_batch_norm, CrossResolutionWeightingBatchNormParams)
LITEHRNET_CPU_DEFINE(depthwise_conv_batch_norm, DepthwiseConvBatchNormParams)
LITEHRNET_CPU_DEFINE(spatial_weighting, SpatialWeightingParams)
LITEHRNET_CPU_DEFINE(conditional_channel_weighting_batch_norm, ConditionalChannelWeightingBatchNormParams)
LITEHRNET_CPU_DEFINE(cross_resolution_weighting_batch_norm_backward, CrossResolutionWeightingBatchNormBackwardParams)
LITEHRNET_CPU_DEFINE(depthwise_conv_batch_norm_backward, DepthwiseConvBatchNormBackwardParams)
LITEHRNET_CPU_DEFINE(spatial_weighting_backward, SpatialWeightingBackwardParams)
LITEHRNET_CPU_DEFINE(conditional_channel_weighting_batch_norm_backward,
                     ConditionalChannelWeightingBatchNormBackwardParams)
LITEHRNET_CPU_DEFINE(update_running_statistics, UpdateRunningStatisticsParams)
LITEHRNET_CPU_DEFINE(separable_conv_batch_norm, SeparableConvBatchNormParams)
LITEHRNET_CPU_DEFINE(separable_conv_batch_norm_backward, SeparableConvBatchNormBackwardParams)
LITEHRNET_CPU_DEFINE(weighted_sum, WeightedSumParams)
LITEHRNET_CPU_DEFINE(weighted_sum_backward, WeightedSumBackwardParams)

}  // namespace litehrnet::cpu
