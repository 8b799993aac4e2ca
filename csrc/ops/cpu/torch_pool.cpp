#include "ops/cpu/torch_pool.h"

#include <pthread.h>

#include <atomic>

namespace litehrnet {
namespace {

std::atomic<bool> is_forked{false};

// Once, when the library is loaded.
const int kRegistered = pthread_atfork(nullptr, nullptr, [] { is_forked = true; });

}  // namespace

int pool_threads() {
  return is_forked || kRegistered != 0 ? 1 : static_cast<int>(torch::stable::get_num_threads());
}

}  // namespace litehrnet
