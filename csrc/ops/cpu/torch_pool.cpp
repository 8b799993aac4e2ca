#include "ops/cpu/torch_pool.h"

#include <pthread.h>

#include <atomic>

#include "cpu/scratch.h"

namespace litehrnet {
namespace {

std::atomic<bool> is_forked{false};

// Once, when the library is loaded.
const int kRegistered = pthread_atfork(nullptr, nullptr, [] { is_forked = true; });

// So threads do not get into one another's way.
thread_local cpu::Scratch kept;

}  // namespace

KeptScratch::KeptScratch(std::size_t bytes, int threads)
    : most_((std::size_t{32} << 20) * static_cast<std::size_t>(threads)), memory_(kept.at_least(bytes)) {}

KeptScratch::~KeptScratch() { kept.keep_at_most(most_); }

int pool_threads() {
  return is_forked || kRegistered != 0 ? 1 : static_cast<int>(torch::stable::get_num_threads());
}

}  // namespace litehrnet
