// From code addresses to names and source lines, by the debug information that -g1 leaves.
#pragma once

#include <string>
#include <vector>

#include "reports.h"

namespace emulator {

struct SourceLine {
  std::string file;  // empty where it is not known
  int line = 0;
};

// Looks all sites up with one run of addr2line, and remembers them. Lines of the emulator's own headers give way to the
// kernel's line that they were inlined into.
std::vector<SourceLine> source_lines(const std::vector<Site>& sites);

// The kernel's name with template arguments, without parameters: "litehrnet::pool_kernel<float, 4>".
std::string kernel_name(const void* function);

}  // namespace emulator
