// The running statistics of batch norms after a training step.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

constexpr int kMaxNorms = 2 + kMaxBranches;  // of a block

struct RunningStatistics {
  void* mean;                  // [channels], of its own type
  void* variance;              // [channels]
  std::int64_t* batches;       // one number, grows by one; null: not tracked
  int channels;
};

struct UpdateRunningStatisticsParams {
  RunningStatistics norm[kMaxNorms];
  const void* statistics;  // [3, sum of channels]: mean, biased and unbiased variance; float, double for double norms
  double momentum;         // running = (1 - momentum) running + momentum statistic
  int norms;
};

}  // namespace litehrnet
