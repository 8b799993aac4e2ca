// The same adapter as for GPUs, with the launchers in ops/cpu/launchers.h.
#include "ops/conditional_channel_weighting_batch_norm_backward.cpp"
