// The same adapter as for GPUs, with the launchers in ops/cpu/launchers.h.
#include "ops/depthwise_conv_batch_norm.cpp"
