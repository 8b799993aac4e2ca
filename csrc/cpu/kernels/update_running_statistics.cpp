// update_running_statistics on the CPU: running = (1 - momentum) running + momentum statistic, for means and unbiased
// variances.
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class T>
void move_towards(void* running, const acc_t<T>* statistics, int channels, double momentum) {
  using A = acc_t<T>;
  T* values = static_cast<T*>(running);
  const Vector<A> factor = broadcast(static_cast<A>(momentum)), rest = broadcast(1 - static_cast<A>(momentum));
  for_vectors<A>(channels, [&](int i, int count) {
    store(values + i, rest * load(values + i, count) + factor * load(statistics + i, count), count);
  });
}

template <class T>
void run(const UpdateRunningStatisticsParams& p) {
  using A = acc_t<T>;
  int columns = 0, column = 0;
  for (int i = 0; i < p.norms; ++i) columns += p.norm[i].channels;
  for (int i = 0; i < p.norms; column += p.norm[i].channels, ++i) {
    const RunningStatistics& norm = p.norm[i];
    const A* statistics = static_cast<const A*>(p.statistics) + column;
    move_towards<T>(norm.mean, statistics, norm.channels, p.momentum);
    move_towards<T>(norm.variance, statistics + 2 * columns, norm.channels, p.momentum);
    if (norm.batches != nullptr) ++*norm.batches;
  }
}

}  // namespace

std::size_t update_running_statistics_scratch(const UpdateRunningStatisticsParams&, DType, int) { return 0; }

void update_running_statistics(const UpdateRunningStatisticsParams& params, DType dtype, const Team&) {
  visit_type(dtype, [&](auto element) { run<decltype(element)>(params); });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
