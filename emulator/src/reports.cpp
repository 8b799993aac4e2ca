#include "reports.h"

#include <algorithm>

#include "scheduler.h"

namespace emulator {
namespace {

std::vector<Report> all;

void add(Report report) {
  const auto same = std::find_if(all.begin(), all.end(), [&](const Report& earlier) {
    return earlier.kind == report.kind && earlier.kernel == report.kernel && earlier.buffer == report.buffer &&
           earlier.site == report.site && earlier.other == report.other;
  });
  if (same != all.end()) {
    ++same->count;
  } else {
    all.push_back(std::move(report));
  }
  if (current_launch() != nullptr) current_launch()->fail(cudaErrorLaunchFailure);
}

}  // namespace

void report_about(const Thread& thread, const std::string& kind, const std::string& detail, Site site,
                  const std::string& buffer, Site other) {
  Report report{kind, detail, buffer, site, other};
  report.kernel = current_launch()->kernel().function;
  report.block_index = thread.block->index;
  report.thread_index = thread.thread_index;
  add(std::move(report));
}

void report(const std::string& kind, const std::string& detail, Site site, const std::string& buffer, Site other) {
  report_about(*current_thread(), kind, detail, site, buffer, other);
}

void report_launch(const void* kernel, const std::string& kind, const std::string& detail) {
  Report report;
  report.kind = kind;
  report.detail = detail;
  report.kernel = kernel;
  add(std::move(report));
}

const std::vector<Report>& reports() { return all; }
void clear_reports() { all.clear(); }

}  // namespace emulator
