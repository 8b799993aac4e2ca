// Launchers of depthwise_conv for GPUs. The maths and the mapping are in depthwise_conv.cu.
#pragma once

#include "core/platform.h"
#include "params/depthwise_conv.h"

namespace litehrnet {

// Tiles that a plane is cut into, each a number of whole rows; tile t adds its sum of y at partial_sums[n, c, t].
int depthwise_conv_tiles(int batch, int height, int width);

// One launch. Returns cudaErrorInvalidValue for sizes outside the limits in the .cu file, else the launch's result.
cudaError_t launch_depthwise_conv_forward(const DepthwiseConvParams& params, DType dtype, cudaStream_t stream);

}  // namespace litehrnet
