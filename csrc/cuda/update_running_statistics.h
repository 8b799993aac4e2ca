// Launchers of update_running_statistics for GPUs. The maths and the mapping are in update_running_statistics.cu.
#pragma once

#include "core/platform.h"
#include "params/update_running_statistics.h"

namespace litehrnet {

// One launch. `dtype` is that of the running statistics.
cudaError_t launch_update_running_statistics(const UpdateRunningStatisticsParams& params, DType dtype,
                                             cudaStream_t stream);

}  // namespace litehrnet
