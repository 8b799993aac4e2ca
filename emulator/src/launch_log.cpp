#include "launch_log.h"

#include <algorithm>
#include <deque>
#include <map>
#include <tuple>

#include "json.h"
#include "memory_checks.h"
#include "source_lines.h"

namespace emulator {
namespace {

std::deque<LaunchRecord>& records() {
  static std::deque<LaunchRecord> all;
  return all;
}

std::string place(const SourceLine& line) {
  return line.file.empty() ? "an unknown line" : line.file + ":" + std::to_string(line.line);
}

std::string text(uint3 v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

const char* name(Access access) {
  return access == Access::read ? "read" : access == Access::write ? "write" : "atomic";
}

void counts(Json& json, const Traffic& traffic) {
  json.member("bytes", traffic.bytes).member("requests", traffic.requests);
  if (traffic.shared) {
    json.member("wavefronts", traffic.wavefronts).member("bank_conflicts", traffic.bank_conflicts);
  } else {
    json.member("sectors", traffic.sectors);
  }
}

void add(Traffic& total, const Traffic& part) {
  total.requests += part.requests;
  total.bytes += part.bytes;
  total.sectors += part.sectors;
  total.wavefronts += part.wavefronts;
  total.bank_conflicts += part.bank_conflicts;
}

// "traffic": totals as in {"global_read": {...}, ...}; "lines": the same by source line.
void write_traffic(Json& json, const LaunchRecord& record) {
  const std::vector<Traffic>& traffic = record.traffic;
  std::vector<Site> sites;
  for (const Traffic& part : traffic) sites.push_back(part.site);
  const std::vector<SourceLine> lines = source_lines(sites);
  std::map<std::pair<bool, Access>, Traffic> totals;
  std::map<std::tuple<std::string, int, bool, Access>, Traffic> by_line;
  for (std::size_t i = 0; i < traffic.size(); ++i) {
    const Traffic& part = traffic[i];
    Traffic& total = totals[{part.shared, part.access}];
    Traffic& line = by_line[{lines[i].file, lines[i].line, part.shared, part.access}];
    total.shared = line.shared = part.shared;
    add(total, part);
    add(line, part);
  }
  json.key("traffic").begin_object();
  for (const auto& [kind, total] : totals) {
    json.key((std::string(kind.first ? "shared_" : "global_") + name(kind.second)).c_str()).begin_object();
    counts(json, total);
    if (!kind.first) json.member("distinct_sectors", record.distinct_sectors[static_cast<int>(kind.second)]);
    json.end_object();
  }
  json.end_object();
  json.key("lines").begin_array();
  for (const auto& [key, line] : by_line) {
    const auto& [file, number, shared, access] = key;
    json.begin_object().member("file", file).member("line", static_cast<std::uint64_t>(number));
    json.member("memory", std::string(shared ? "shared" : "global")).member("access", std::string(name(access)));
    counts(json, line);
    json.end_object();
  }
  json.end_array();
}

}  // namespace

Traffic& LaunchRecord::traffic_at(const Site& site, bool shared, Access access) {
  const auto same = std::find_if(traffic.begin(), traffic.end(), [&](const Traffic& earlier) {
    return earlier.shared == shared && earlier.access == access && earlier.site == site;
  });
  if (same != traffic.end()) return *same;
  Traffic fresh{};
  fresh.site = site;
  fresh.shared = shared;
  fresh.access = access;
  traffic.push_back(fresh);
  return traffic.back();
}

LaunchRecord& current_record() { return records().back(); }

LaunchRecord& begin_record(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative) {
  static std::uint64_t launches = 0;
  LaunchRecord record;
  record.number = ++launches;
  record.kernel = kernel;
  record.grid = grid;
  record.block = block;
  record.shared_bytes = shared_bytes;
  record.cooperative = cooperative;
  records().push_back(record);
  return records().back();
}

void clear_launches() { records().clear(); }

std::string launches_json() {
  Json json;
  json.begin_array();
  for (const LaunchRecord& record : records()) {
    const std::uint64_t blocks = static_cast<std::uint64_t>(record.grid.x) * record.grid.y * record.grid.z;
    json.begin_object();
    json.member("kernel", kernel_name(record.kernel));
    json.member("grid", uint3(record.grid)).member("block", uint3(record.block));
    json.member("shared_bytes", std::uint64_t{record.shared_bytes});
    json.member("threads", blocks * record.block.x * record.block.y * record.block.z);
    json.member("cooperative", record.cooperative);
    json.member("error", std::string(cudaGetErrorName(record.error)));
    if (!record.traffic.empty()) write_traffic(json, record);
    json.end_object();
  }
  json.end_array();
  return json.text();
}

std::string sentence(const Report& report) {
  const std::vector<SourceLine> lines = source_lines({report.site, report.other});
  std::string result = kernel_name(report.kernel) + ": " + report.kind;
  if (!report.buffer.empty()) result += " in " + report.buffer;
  result += ": " + report.detail;
  if (!report.site.known()) return result;
  result += ", block " + text(report.block_index) + ", thread " + text(report.thread_index) + ", at " + place(lines[0]);
  if (report.other.known()) result += ", the other at " + place(lines[1]);
  return result;
}

std::string reports_json() {
  std::vector<Site> sites;
  for (const Report& report : reports()) {
    sites.push_back(report.site);
    sites.push_back(report.other);
  }
  source_lines(sites);  // all at once; what follows finds them remembered
  Json json;
  json.begin_array();
  for (const Report& report : reports()) {
    const std::vector<SourceLine> lines = source_lines({report.site, report.other});
    json.begin_object();
    json.member("kind", report.kind).member("kernel", kernel_name(report.kernel)).member("buffer", report.buffer);
    json.member("block", report.block_index).member("thread", report.thread_index);
    json.member("file", lines[0].file).member("line", static_cast<std::uint64_t>(lines[0].line));
    json.member("other_file", lines[1].file).member("other_line", static_cast<std::uint64_t>(lines[1].line));
    json.member("count", report.count).member("message", sentence(report));
    json.end_object();
  }
  json.end_array();
  return json.text();
}

}  // namespace emulator
