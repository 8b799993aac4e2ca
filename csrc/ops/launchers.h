// What adapters call: launchers of kernels on GPUs, or in files that are compiled with LITEHRNET_CPU what stands for them.
#pragma once

#ifdef LITEHRNET_CPU
#include "ops/cpu/launchers.h"
#else
#include "cuda/conditional_channel_weighting.h"
#include "cuda/conditional_channel_weighting_batch_norm.h"
#include "cuda/conditional_channel_weighting_batch_norm_backward.h"
#include "cuda/cross_resolution_weighting.h"
#include "cuda/cross_resolution_weighting_batch_norm.h"
#include "cuda/cross_resolution_weighting_batch_norm_backward.h"
#include "cuda/depthwise_conv.h"
#include "cuda/depthwise_conv_batch_norm.h"
#include "cuda/depthwise_conv_batch_norm_backward.h"
#include "cuda/spatial_weighting.h"
#include "cuda/spatial_weighting_backward.h"
#include "cuda/update_running_statistics.h"
#endif
