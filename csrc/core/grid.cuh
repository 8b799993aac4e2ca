// The barrier of a whole grid, for launch_cooperative(). By itself, since CUDA's header for it takes longer to compile
// than most kernels do.
#pragma once

#include "core/platform.h"

#ifndef LITEHRNET_EMULATED  // platform.h has the emulator's
#include <cooperative_groups.h>
#endif
