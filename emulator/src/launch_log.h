// The launches since the last reset, in order, and what is told of them and of the reports in JSON.
#pragma once

#include <string>
#include <vector>

#include "emulator/launch.h"
#include "reports.h"

namespace emulator {

enum class Access : std::uint8_t;

// The memory traffic of one place in the source, in one kind of memory.
struct Traffic {
  Site site;
  bool shared = false;
  Access access;
  std::uint64_t requests = 0;        // of a warp
  std::uint64_t bytes = 0;           // asked for by the lanes
  std::uint64_t sectors = 0;         // of 32 bytes, in global memory
  std::uint64_t wavefronts = 0;      // in shared memory
  std::uint64_t bank_conflicts = 0;  // wavefronts beyond the least
};

struct LaunchRecord {
  std::uint64_t number = 0;  // since the program began
  const void* kernel = nullptr;
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  bool cooperative = false;
  cudaError_t error = cudaSuccess;
  std::vector<Traffic> traffic;
  std::uint64_t distinct_sectors[3] = {};  // of global memory, by access, each counted once

  Traffic& traffic_at(const Site& site, bool shared, Access access);
};

LaunchRecord& begin_record(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative);
LaunchRecord& current_record();
void clear_launches();

std::string launches_json();
std::string reports_json();
std::string sentence(const Report& report);  // all that is known, for people

}  // namespace emulator
