// The CPU's ops under the names of launchers, so that adapters are written once. Streams and workspaces are nothing here:
// an op returns when it is done, and its memory is the calling thread's.
//
// All of it is local to the file that includes it, since the launchers proper have the same names.
#pragma once

#include "core/reduction.h"
#include "cpu/ops.h"
#include "ops/cpu/torch_pool.h"
#include "ops/device.h"

namespace litehrnet {
namespace {

struct NoStream {};
struct Done {};

class DeviceScope {
 public:
  explicit DeviceScope(const Tensor&) {}
  NoStream stream() const { return {}; }
};

inline void check_launch(const char*, Done) {}

template <class Params>
Done run_on_cpu(const Params& params, DType dtype) {
  const int threads = pool_threads();
  TorchPool pool;
  const KeptScratch scratch(cpu::scratch_bytes(params, dtype, threads), threads);
  cpu::run(params, dtype, {&pool, threads, scratch.memory()});
  return {};
}

#define LITEHRNET_CPU_LAUNCHER(launch, workspace_bytes, Params)                                          \
  [[maybe_unused]] Done launch(const Params& params, DType dtype, NoStream) { return run_on_cpu(params, dtype); } \
  [[maybe_unused]] std::size_t workspace_bytes(const Params&, DType) { return 0; }

LITEHRNET_CPU_LAUNCHER(launch_cross_resolution_weighting_forward, cross_resolution_weighting_workspace_bytes,
                       CrossResolutionWeightingParams)
LITEHRNET_CPU_LAUNCHER(launch_depthwise_conv_forward, depthwise_conv_workspace_bytes, DepthwiseConvParams)
LITEHRNET_CPU_LAUNCHER(launch_conditional_channel_weighting_forward, conditional_channel_weighting_workspace_bytes,
                       ConditionalChannelWeightingParams)
LITEHRNET_CPU_LAUNCHER(launch_cross_resolution_weighting_batch_norm_forward,
                       cross_resolution_weighting_batch_norm_workspace_bytes, CrossResolutionWeightingBatchNormParams)
LITEHRNET_CPU_LAUNCHER(launch_cross_resolution_weighting_batch_norm_backward,
                       cross_resolution_weighting_batch_norm_backward_workspace_bytes,
                       CrossResolutionWeightingBatchNormBackwardParams)
LITEHRNET_CPU_LAUNCHER(launch_depthwise_conv_batch_norm_forward, depthwise_conv_batch_norm_workspace_bytes,
                       DepthwiseConvBatchNormParams)
LITEHRNET_CPU_LAUNCHER(launch_depthwise_conv_batch_norm_backward, depthwise_conv_batch_norm_backward_workspace_bytes,
                       DepthwiseConvBatchNormBackwardParams)
LITEHRNET_CPU_LAUNCHER(launch_spatial_weighting_forward, spatial_weighting_workspace_bytes, SpatialWeightingParams)
LITEHRNET_CPU_LAUNCHER(launch_spatial_weighting_backward, spatial_weighting_backward_workspace_bytes,
                       SpatialWeightingBackwardParams)
LITEHRNET_CPU_LAUNCHER(launch_conditional_channel_weighting_batch_norm_forward,
                       conditional_channel_weighting_batch_norm_workspace_bytes,
                       ConditionalChannelWeightingBatchNormParams)
LITEHRNET_CPU_LAUNCHER(launch_conditional_channel_weighting_batch_norm_backward,
                       conditional_channel_weighting_batch_norm_backward_workspace_bytes,
                       ConditionalChannelWeightingBatchNormBackwardParams)
LITEHRNET_CPU_LAUNCHER(launch_update_running_statistics, update_running_statistics_workspace_bytes,
                       UpdateRunningStatisticsParams)

// Nothing is left over by the op.
[[maybe_unused]] Reductions depthwise_conv_batch_norm_backward_reductions(const DepthwiseConvBatchNormBackwardParams&,
                                                                          DType) {
  return {};
}
[[maybe_unused]] Done launch_reductions(const Reductions&, DType, NoStream) { return {}; }

}  // namespace
}  // namespace litehrnet
