// Runs a grid: one block after the other, the threads of a block as fibers on the calling host thread.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "emulator/collectives.h"
#include "emulator/launch.h"
#include "fiber.h"
#include "shadow.h"
#include "shared_memory.h"

namespace emulator {

struct Block;

enum class State : std::uint8_t { ready, at_barrier, at_collective, at_grid_barrier, exited };

// What a lane brings to a collective.
struct Request {
  Collective kind = Collective::synchronise;
  unsigned mask = 0;
  std::uint64_t value = 0;
  int argument = 0;
  int width = 32;
};

struct Thread : Coordinates {
  Block* block = nullptr;
  unsigned rank = 0;  // in the block
  unsigned lane = 0;
  State state = State::ready;
  Location waits_at = {nullptr, 0};
  Request request;
  std::uint64_t result = 0;
  Context context;
  Stack stack;  // none before the thread starts and after it ends

  // For the memory checks, in times of their clock: when the thread last synchronised, when it last executed
  // __threadfence(), and up to when it knows of the doings of each lane of its warp.
  std::uint32_t segment = 0;
  std::uint32_t fence = 0;
  std::array<std::uint32_t, 32> known = {};

  unsigned warp() const { return rank / 32; }
  unsigned bit() const { return 1u << lane; }
};

// Lanes, a bit each: at every collective one asks for them, and looking at 32 threads would take longer than the rest.
struct Warp {
  unsigned existing = 0;
  unsigned exited = 0;
  unsigned at_collective = 0;

  unsigned alive() const { return existing & ~exited; }
};

struct Block {
  std::uint32_t rank = 0;  // in the grid
  uint3 index = {0, 0, 0};
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Thread*> ready;
  std::size_t next = 0;  // in `ready`
  unsigned exited = 0;
  unsigned at_barrier = 0;
  unsigned at_grid_barrier = 0;
  unsigned predicates = 0;  // threads at the barrier whose predicate holds
  std::vector<char> shared_contents;  // of a cooperative launch, while other blocks run

  // For the memory checks, in times of their clock.
  std::uint32_t start = 0;
  std::uint32_t barrier = 0;           // the last one
  std::uint32_t previous_barrier = 0;  // the one before
  std::vector<Cell> shared_variables, shared_dynamic;

  bool over() const { return exited == threads.size(); }
  unsigned alive() const { return static_cast<unsigned>(threads.size()) - exited; }
  Warp& warp_of(const Thread& thread) { return warps[thread.warp()]; }
};

class Launch {
 public:
  Launch(const Kernel& kernel, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative);
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  cudaError_t run();

  const Kernel& kernel() const { return kernel_; }
  const SharedMemory& shared_memory() const { return shared_memory_; }
  std::uint64_t blocks() const { return static_cast<std::uint64_t>(grid_.x) * grid_.y * grid_.z; }
  unsigned threads_per_block() const { return block_.x * block_.y * block_.z; }
  bool cooperative() const { return cooperative_; }

  // Called by the running thread.
  void suspend(Thread& thread);  // comes back when make_ready() has been called for it
  void make_ready(Thread& thread);
  void leave_collective(Thread& thread);  // for the running thread: make_ready() does it for others
  void shuffle_ready(Block& block, std::size_t first);  // in the order that the seed asks for
  BarrierResult block_barrier(Thread& thread, int predicate, Location at);
  void grid_barrier(Thread& thread, Location at);
  void yield(Thread& thread);
  void let_others_go_first(Thread& thread);  // if the order of threads says so
  void fail(cudaError_t error);                  // the launch goes on and returns the error
  [[noreturn]] void abandon(cudaError_t error);  // the launch ends here: memory or a wait is beyond repair

 private:
  static void enter();  // every fiber begins here
  void start(Block& block, std::uint32_t rank);
  void run_ready(Block& block);
  void resume(Thread& thread);
  void release_barrier(Block& block);
  void release_grid_barrier(std::vector<Block>& blocks);
  void exit(Thread& thread);
  void explain_standstill(Block& block);
  void run_one_by_one(const std::vector<std::uint32_t>& order);
  void run_together(const std::vector<std::uint32_t>& order);
  std::vector<std::uint32_t> block_order();

  Kernel kernel_;
  dim3 grid_, block_;
  bool cooperative_;
  SharedMemory shared_memory_;
  Context host_;
  std::mt19937_64 random_;
  std::uint64_t seed_;
  std::uint64_t atomics_ = 0;
  cudaError_t error_ = cudaSuccess;
  bool abandoned_ = false;
};

Launch* current_launch();  // null outside launches
Thread* current_thread();

// Looks whether a group of waiting lanes in this lane's warp is complete, and lets it go on if so.
void complete_collectives(Launch& launch, Thread& thread);

}  // namespace emulator
