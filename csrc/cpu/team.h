// Threads and memory that work is done with.
#pragma once

#include <cstddef>

namespace litehrnet::cpu {

constexpr std::size_t kScratchAlignment = 64;

// Threads that somebody else owns. run() calls task(context, i) for i = 0 to tasks - 1, in any order, perhaps at the
// same time, and returns when all of them have ended.
struct Pool {
  virtual ~Pool() = default;
  virtual void run(int tasks, void (*task)(void*, int), void* context) = 0;
};

// Who does the work, and where. Nothing is allocated; scratch memory may hold anything, and is not kept.
struct Team {
  Pool* pool;     // may be null if there is one thread
  int threads;    // at least 1
  void* scratch;  // as many bytes as are asked for, at a multiple of kScratchAlignment
};

}  // namespace litehrnet::cpu
