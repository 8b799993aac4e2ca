// Checks every access of an instrumented kernel: bounds, initialisation, and order between threads.
//
// Order is kept on one clock that ticks at every synchronisation. Each access is marked with the time at which its
// thread last synchronised. An access is ordered before the running thread's if it is marked with a time
//   - before the last grid barrier (or the launch), or before the last barrier of the same block;
//   - up to which the thread knows of the lane, when both are in one warp: lanes learn of each other in __syncwarp()
//     and in no other collective, for CUDA's shuffles and votes do not order memory;
//   - that another block has released: __threadfence(), then an atomic operation on an address, on which a thread of
//     this block has performed an atomic operation since (the "last block finishes" pattern).
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "buffers.h"
#include "reports.h"
#include "scheduler.h"
#include "shadow.h"

namespace emulator {

enum class Access : std::uint8_t { read, write, atomic };

class MemoryChecks {
 public:
  // Called by the scheduler.
  void begin(const Launch& launch);
  void end();
  void begin_block(Block& block);
  void block_barrier(Block& block);
  void grid_barrier(std::vector<Block>& blocks);
  void warp_barrier(Thread* lanes, unsigned mask);
  void fence(Thread& thread);

  // Called by the running thread.
  void access(std::uintptr_t address, std::size_t bytes, Access access, Site site);

  void register_buffer(std::uintptr_t address, std::size_t bytes, const char* name, bool initialised);
  void unregister_buffer(std::uintptr_t address) { buffers_.remove(address); }
  void mark_initialised(std::uintptr_t address, std::size_t bytes);
  void clear();

 private:
  enum class Space : std::uint8_t { none, shared_variables, shared_dynamic, global };

  // What a thread made known to other blocks by a fence and an atomic operation.
  struct Release {
    std::uint32_t block = 0;
    std::uint32_t before = 0;  // all of the block up to here,
    unsigned warp = 0;
    std::array<std::uint32_t, 32> lanes = {};  // and of the lanes of this warp up to there
  };
  // That a thread performed an atomic operation on an address, after so many releases there.
  struct Acquire {
    std::uintptr_t address = 0;
    std::size_t releases = 0;
    unsigned warp = 0;
    std::uint32_t time = 0;
  };

  Space check_bounds(const Thread& thread, std::uintptr_t address, std::size_t bytes, Access access, const Site& site,
                     const Buffer*& buffer);
  void check_cells(Thread& thread, Space space, const Buffer* buffer, std::uintptr_t address, std::size_t bytes,
                   Access access, const Site& site);
  void check_order(const Thread& thread, const Mark& earlier, const Mark& now, const char* what, Space space,
                   const Buffer* buffer, std::uintptr_t address);
  bool ordered(const Thread& thread, const Mark& earlier) const;
  bool released(const Thread& thread, const Mark& earlier) const;
  void pass_on(Thread& thread, std::uintptr_t address);
  Cell& cell(Block& block, Space space, std::uintptr_t address);
  std::string name(Space space, const Buffer* buffer) const;
  std::uint32_t index(const Site& site);
  Site site(std::uint32_t index) const;

  std::uint32_t clock_ = 0;
  std::uint32_t grid_time_ = 0;  // of the last grid barrier, or the launch
  const Launch* launch_ = nullptr;
  bool on_ = false;
  Buffers buffers_;
  Shadow global_;
  std::vector<Location> locations_;
  std::unordered_map<std::uintptr_t, std::vector<Release>> releases_;
  std::unordered_map<std::uint32_t, std::vector<Acquire>> acquires_;  // by block
};

MemoryChecks& memory_checks();

}  // namespace emulator
