// What tests set before they launch kernels.
#pragma once

#include <cstdint>
#include <mutex>

namespace emulator {

struct Settings {
  std::uint64_t seed = 0;  // 0: threads run in natural order; 1: in reverse; others: in random order
  bool check = false;      // memory checks, in an instrumented build
  bool statistics = false;
  int multiprocessors = 4;
};

Settings& settings();
std::mutex& one_at_a_time();  // held by a launch, and by whoever reads its results

}  // namespace emulator
