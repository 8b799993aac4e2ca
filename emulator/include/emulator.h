// CUDA's language and the part of its runtime that the kernels use, on the CPU, in place of CUDA's headers. README.md
// says how it works and where its limits are.
#pragma once

#include "emulator/language.h"
#include "emulator/vector_types.h"

#include "emulator/collectives.h"
#include "emulator/half.h"
#include "emulator/intrinsics.h"

#include "emulator/atomics.h"
#include "emulator/cooperative_groups.h"
#include "emulator/launch.h"
