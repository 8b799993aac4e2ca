// Counts memory traffic as a device would see it: what the lanes of a warp access in one instruction is one request.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <unordered_set>
#include <vector>

#include "launch_log.h"
#include "memory_checks.h"

namespace emulator {

class Statistics {
 public:
  void count(const Thread& thread, bool shared, std::uintptr_t address, std::size_t bytes, Access access, Site site);
  void end_phase();  // a block has run as far as it could: its requests are complete

 private:
  struct Request {
    bool shared = false;
    Access access = Access::read;
    std::size_t bytes = 0;  // of each lane
    Site site;
    std::vector<std::pair<unsigned, std::uintptr_t>> lanes;  // with the address of each
  };
  using Key = std::tuple<unsigned, std::uintptr_t, int, std::uint32_t>;  // warp, place (2), how often before

  std::uint64_t launch_ = 0;                       // that the sectors below belong to
  std::unordered_set<std::uintptr_t> touched_[3];  // of global memory, by access
  std::map<Key, Request> requests_;
  std::map<std::tuple<unsigned, std::uintptr_t, int>, std::uint32_t> occurrences_;  // by thread and place
};

Statistics& statistics();

}  // namespace emulator
