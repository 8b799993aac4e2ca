// Memory and threads of a step: buffers are cut from the team's scratch memory, work is cut into tasks.
#pragma once

#include "cpu/team.h"
#include "cpu/kernels/vectors.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

// Cuts buffers from memory, one after the other. Without memory it only counts.
class Cutter {
 public:
  explicit Cutter(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}

  // Room for `count` elements and a vector behind them, aligned.
  template <class T>
  T* cut(std::int64_t count) {
    const std::size_t at = bytes_;
    bytes_ += round_up(static_cast<std::size_t>(count) * sizeof(T) + 2 * kVectorBytes);
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + at);
  }

  std::size_t bytes() const { return bytes_; }

 private:
  static std::size_t round_up(std::size_t bytes) {
    return (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
  }
  unsigned char* memory_;
  std::size_t bytes_ = 0;
};

LITEHRNET_INLINE int least(int a, int b) { return a < b ? a : b; }
LITEHRNET_INLINE int most(int a, int b) { return a > b ? a : b; }
LITEHRNET_INLINE int divide_up(int a, int b) { return (a + b - 1) / b; }

// Elements from one plane to the next in scratch memory: an odd number of cache lines, with a vector to spare.
template <class A>
LITEHRNET_INLINE int plane_pitch(int pixels) {
  constexpr int line = 64 / static_cast<int>(sizeof(A));
  return (divide_up(pixels + kLanes<A>, line) | 1) * line;
}

// Scratch memory of a step: a part that all tasks see, and one for each of the threads.
// Shared and Own are structures of buffers, made by Shared(Cutter&, params) and Own(Cutter&, params).
template <class Shared, class Own, class Params>
std::size_t scratch_of(const Params& params, int threads) {
  Cutter shared(nullptr), own(nullptr);
  Shared(shared, params);
  Own(own, params);
  return shared.bytes() + own.bytes() * static_cast<std::size_t>(threads);
}

template <class Shared, class Own, class Params>
class Workplace {
 public:
  Workplace(const Params& params, const Team& team)
      : params_(params), team_(team), cutter_(team.scratch), shared(cutter_, params) {
    Cutter own(nullptr);
    Own(own, params);
    own_bytes_ = own.bytes();
  }

  // Calls task(number, own) for all numbers; neighbouring ones go to the same thread.
  template <class Task>
  void for_each(int tasks, const Task& task) {
    for_ranges(tasks, [&](int first, int end, const Own& own) {
      for (int number = first; number < end; ++number) task(number, own);
    });
  }

  // Calls task(first, end, own) for ranges that all numbers are in.
  template <class Task>
  void for_ranges(int tasks, const Task& task) {
    struct Job {
      Workplace* place;
      const Task* task;
      int tasks, parts;
      void run(int part) const {
        Cutter cutter(static_cast<unsigned char*>(place->team_.scratch) + place->cutter_.bytes() +
                      place->own_bytes_ * static_cast<std::size_t>(part));
        Own own(cutter, place->params_);
        const int first = static_cast<int>(static_cast<std::int64_t>(tasks) * part / parts);
        const int end = static_cast<int>(static_cast<std::int64_t>(tasks) * (part + 1) / parts);
        (*task)(first, end, own);
      }
    };
    if (tasks <= 0) return;
    const int parts = least(tasks, team_.threads);
    Job job{this, &task, tasks, parts};
    if (parts == 1 || team_.pool == nullptr) {
      job.parts = 1;
      return job.run(0);
    }
    team_.pool->run(parts, [](void* context, int part) { static_cast<const Job*>(context)->run(part); }, &job);
  }

 private:
  const Params& params_;
  const Team& team_;
  Cutter cutter_;
  std::size_t own_bytes_;

 public:
  Shared shared;
};

// A structure of no buffers.
struct Nothing {
  template <class Params>
  Nothing(Cutter&, const Params&) {}
};

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
