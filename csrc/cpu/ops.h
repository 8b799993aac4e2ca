// The fused ops on the CPU, for what the processor can do, under the names and with the parameters of their launchers
// on GPUs. Adapters that are compiled with LITEHRNET_CPU call these.
//
// Workspaces are scratch memory for the threads of a team. Results are the same bit by bit, however many threads there
// are.
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

// Bytes of scratch memory for a team of so many threads, and the op.
template <class Params>
std::size_t scratch_bytes(const Params& params, DType dtype, int threads);
template <class Params>
void run(const Params& params, DType dtype, const Team& team);

}  // namespace litehrnet::cpu
