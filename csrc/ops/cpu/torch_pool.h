// Threads of torch's pool: as many as torch.set_num_threads() says.
#pragma once

#include "cpu/team.h"
#include "ops/torch_compat.h"

namespace litehrnet {

class LITEHRNET_HIDDEN TorchPool final : public cpu::Pool {
 public:
  void run(int tasks, void (*task)(void*, int), void* context) override {
    torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) task(context, static_cast<int>(i));
    });
  }
};

// How many threads work may be given to. One in a process that was forked: its OpenMP would wait for threads that
// stayed behind.
int pool_threads();

// Scratch memory of the calling thread, for one call at a time. It is kept for the next one, unless it is so much that
// images must have been unusually large: more than 32 MB for each thread of the pool.
class KeptScratch {
 public:
  KeptScratch(std::size_t bytes, int threads);
  ~KeptScratch();
  KeptScratch(const KeptScratch&) = delete;
  KeptScratch& operator=(const KeptScratch&) = delete;
  void* memory() const { return memory_; }

 private:
  std::size_t most_;
  void* memory_;
};

}  // namespace litehrnet
