// The same adapter as for GPUs, with the launchers in ops/cpu/launchers.h.
#include "ops/cross_resolution_weighting.cpp"
