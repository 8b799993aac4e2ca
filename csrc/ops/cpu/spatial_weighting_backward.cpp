// The same adapter as for GPUs, with the launchers in ops/cpu/launchers.h.
#include "ops/spatial_weighting_backward.cpp"
