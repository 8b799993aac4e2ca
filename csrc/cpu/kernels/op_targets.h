// The functions of all ops, for every capability; cpu/ops.h says what they do.
#pragma once

#include "cpu/team.h"
#include "params/conditional_channel_weighting.h"
#include "params/conditional_channel_weighting_batch_norm.h"
#include "params/conditional_channel_weighting_batch_norm_backward.h"
#include "params/cross_resolution_weighting.h"
#include "params/cross_resolution_weighting_batch_norm.h"
#include "params/cross_resolution_weighting_batch_norm_backward.h"
#include "params/depthwise_conv.h"
#include "params/depthwise_conv_batch_norm.h"
#include "params/depthwise_conv_batch_norm_backward.h"
#include "params/separable_conv_batch_norm.h"
#include "params/separable_conv_batch_norm_backward.h"
#include "params/spatial_weighting.h"
#include "params/spatial_weighting_backward.h"
#include "params/update_running_statistics.h"
#include "params/weighted_sum.h"

namespace litehrnet::cpu {

// Of the positions of cross-resolution weighting, for all images and channels [N, C, h, w]: what the backward pass of the
// depthwise convolution leaves to that of the weighting, because it has the planes at hand. Float, double for fp64.
struct PositionSums {
  void* grad_gates;
  void* pooled;
};

}  // namespace litehrnet::cpu

#define LITEHRNET_CPU_OP(name, Params)                                         \
  std::size_t name##_scratch(const Params& params, DType dtype, int threads);  \
  void name(const Params& params, DType dtype, const Team& team);

#define LITEHRNET_CPU_OPS(target)                                                                             \
  namespace litehrnet::cpu::target {                                                                                   \
  LITEHRNET_CPU_OP(cross_resolution_weighting, CrossResolutionWeightingParams)                                         \
  LITEHRNET_CPU_OP(depthwise_conv, DepthwiseConvParams)                                                                \
  LITEHRNET_CPU_OP(conditional_channel_weighting, ConditionalChannelWeightingParams)                                   \
  LITEHRNET_CPU_OP(cross_resolution_weighting_batch_norm, CrossResolutionWeightingBatchNormParams)                     \
  LITEHRNET_CPU_OP(depthwise_conv_batch_norm, DepthwiseConvBatchNormParams)                                            \
  LITEHRNET_CPU_OP(spatial_weighting, SpatialWeightingParams)                                                          \
  LITEHRNET_CPU_OP(conditional_channel_weighting_batch_norm, ConditionalChannelWeightingBatchNormParams)               \
  LITEHRNET_CPU_OP(cross_resolution_weighting_batch_norm_backward, CrossResolutionWeightingBatchNormBackwardParams)    \
  LITEHRNET_CPU_OP(depthwise_conv_batch_norm_backward, DepthwiseConvBatchNormBackwardParams)                           \
  LITEHRNET_CPU_OP(spatial_weighting_backward, SpatialWeightingBackwardParams)                                         \
  LITEHRNET_CPU_OP(conditional_channel_weighting_batch_norm_backward, ConditionalChannelWeightingBatchNormBackwardParams) \
  LITEHRNET_CPU_OP(separable_conv_batch_norm, SeparableConvBatchNormParams)                                            \
  LITEHRNET_CPU_OP(separable_conv_batch_norm_backward, SeparableConvBatchNormBackwardParams)                           \
  LITEHRNET_CPU_OP(update_running_statistics, UpdateRunningStatisticsParams)                                           \
  LITEHRNET_CPU_OP(weighted_sum, WeightedSumParams)                                                                    \
  LITEHRNET_CPU_OP(weighted_sum_backward, WeightedSumBackwardParams)                                                   \
  void depthwise_conv_batch_norm_backward(const DepthwiseConvBatchNormBackwardParams& params, DType dtype,             \
                                          const Team& team, const PositionSums& sums);                                 \
  void cross_resolution_weighting_batch_norm_backward(const CrossResolutionWeightingBatchNormBackwardParams& params,   \
                                                      DType dtype, const Team& team, const PositionSums& sums);        \
  }

LITEHRNET_CPU_OPS(baseline)
#if defined(__x86_64__)
LITEHRNET_CPU_OPS(avx2)
LITEHRNET_CPU_OPS(avx512)
#endif
