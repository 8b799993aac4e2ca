#include "statistics.h"

#include <algorithm>
#include <array>
#include <set>

namespace emulator {
namespace {

constexpr std::size_t sector = 32;  // the unit of traffic between the caches
constexpr unsigned banks = 32;      // of 4 bytes each

using Lanes = std::vector<std::pair<unsigned, std::uintptr_t>>;

std::set<std::uintptr_t> sectors(const Lanes& lanes, std::size_t bytes) {
  std::set<std::uintptr_t> touched;
  for (const auto& [lane, address] : lanes) {
    for (std::uintptr_t s = address / sector; s <= (address + bytes - 1) / sector; ++s) touched.insert(s);
  }
  return touched;
}

struct Wavefronts {
  std::uint64_t needed = 0;
  std::uint64_t least = 0;  // without bank conflicts
};

// Shared memory delivers one word per bank at a time. Accesses of 8 bytes are served by half-warps, of 16 by quarters.
Wavefronts wavefronts(const Lanes& lanes, std::size_t bytes) {
  const unsigned group_size = bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8;
  Wavefronts total;
  for (unsigned first = 0; first < 32; first += group_size) {
    std::array<std::set<std::uintptr_t>, banks> words;
    for (const auto& [lane, address] : lanes) {
      if (lane < first || lane >= first + group_size) continue;
      for (std::uintptr_t word = address / 4; word <= (address + bytes - 1) / 4; ++word) {
        words[word % banks].insert(word);
      }
    }
    std::size_t most = 0;
    for (const auto& bank : words) most = std::max(most, bank.size());
    total.needed += most;
    total.least += most != 0;
  }
  return total;
}

}  // namespace

Statistics& statistics() {
  static Statistics current;
  return current;
}

void Statistics::count(const Thread& thread, bool shared, std::uintptr_t address, std::size_t bytes, Access access,
                       Site site) {
  const std::uintptr_t place =
      site.location.file != nullptr ? reinterpret_cast<std::uintptr_t>(site.location.file) : site.pc;
  const std::uint32_t before = occurrences_[{thread.rank, place, site.location.line}]++;
  Request& request = requests_[{thread.warp(), place, site.location.line, before}];
  request.shared = shared;
  request.access = access;
  request.bytes = std::max(request.bytes, bytes);
  request.site = site;
  request.lanes.emplace_back(thread.lane, address);
}

void Statistics::end_phase() {
  LaunchRecord& record = current_record();
  if (record.number != launch_) {
    for (auto& touched : touched_) touched.clear();
    launch_ = record.number;
  }
  for (const auto& [key, request] : requests_) {
    Traffic& traffic = record.traffic_at(request.site, request.shared, request.access);
    ++traffic.requests;
    traffic.bytes += request.bytes * request.lanes.size();
    if (request.shared) {
      const Wavefronts count = wavefronts(request.lanes, request.bytes);
      traffic.wavefronts += count.needed;
      traffic.bank_conflicts += count.needed - count.least;
    } else {
      const std::set<std::uintptr_t> touched = sectors(request.lanes, request.bytes);
      traffic.sectors += touched.size();
      touched_[static_cast<int>(request.access)].insert(touched.begin(), touched.end());
    }
  }
  for (int access = 0; access < 3; ++access) record.distinct_sectors[access] = touched_[access].size();
  requests_.clear();
  occurrences_.clear();
}

}  // namespace emulator
