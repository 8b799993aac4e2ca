#include "ops/cpu/torch_pool.h"

#include <pthread.h>

#include <atomic>

#include "cpu/scratch.h"

namespace litehrnet {
namespace {

std::atomic<bool> is_forked{false};

// Once, when the library is loaded.
const int kRegistered = pthread_atfork(nullptr, nullptr, [] { is_forked = true; });

thread_local cpu::Scratch kept;

}  // namespace

void* kept_scratch(std::size_t bytes) { return kept.at_least(bytes); }

int pool_threads() {
  return is_forked || kRegistered != 0 ? 1 : static_cast<int>(torch::stable::get_num_threads());
}

}  // namespace litehrnet
