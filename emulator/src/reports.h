// What the checks found, each kind of mistake at each place once, with a count.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "emulator/language.h"

namespace emulator {

// A place in the source: known at once, or as a code address that is looked up when somebody reads the report.
struct Site {
  Location location = {nullptr, 0};
  std::uintptr_t pc = 0;

  bool known() const { return location.file != nullptr || pc != 0; }
  bool operator==(const Site& other) const {
    return location.file == other.location.file && location.line == other.location.line && pc == other.pc;
  }
};

struct Report {
  std::string kind;    // "race", "out of bounds", ...
  std::string detail;  // one sentence without the place
  std::string buffer;  // empty where no memory is involved
  Site site;
  Site other;  // the other access of a race, the other barrier of a divergent one
  const void* kernel = nullptr;
  uint3 block_index = {0, 0, 0}, thread_index = {0, 0, 0};
  std::uint64_t count = 1;
};

// Adds a report about the running thread, and lets the launch fail.
void report(const std::string& kind, const std::string& detail, Site site, const std::string& buffer = "",
            Site other = {});
// The same about another thread.
struct Thread;
void report_about(const Thread& thread, const std::string& kind, const std::string& detail, Site site,
                  const std::string& buffer = "", Site other = {});
// About the launch as a whole.
void report_launch(const void* kernel, const std::string& kind, const std::string& detail);

const std::vector<Report>& reports();
void clear_reports();

}  // namespace emulator
