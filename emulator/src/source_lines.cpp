#include "source_lines.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>

namespace emulator {
namespace {

struct Address {
  std::string library;
  std::uintptr_t offset = 0;
};

Address locate(std::uintptr_t pc) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(pc), &info) == 0) return {};
  return {info.dli_fname, pc - reinterpret_cast<std::uintptr_t>(info.dli_fbase)};
}

std::vector<std::string> output_lines(const std::string& command) {
  std::vector<std::string> lines;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (!pipe) return lines;
  std::string line;
  for (int c = std::fgetc(pipe.get()); c != EOF; c = std::fgetc(pipe.get())) {
    if (c != '\n') {
      line += static_cast<char>(c);
    } else {
      lines.push_back(line);
      line.clear();
    }
  }
  return lines;
}

// "file:line" or "file:line (discriminator 3)".
SourceLine parse(const std::string& text) {
  const std::size_t end = text.find(" (");
  const std::string place = text.substr(0, end);
  const std::size_t colon = place.rfind(':');
  if (colon == std::string::npos || place.rfind("??", 0) == 0) return {};
  return {place.substr(0, colon), std::atoi(place.c_str() + colon + 1)};
}

std::map<std::uintptr_t, SourceLine>& known_lines() {
  static std::map<std::uintptr_t, SourceLine> lines;
  return lines;
}

void look_up(const std::vector<std::uintptr_t>& addresses) {
  std::map<std::string, std::vector<std::uintptr_t>> by_library;
  for (const std::uintptr_t pc : addresses) by_library[locate(pc).library].push_back(pc);
  for (const auto& [library, pcs] : by_library) {
    if (library.empty()) continue;
    // A return address is behind its call; one byte before it is inside. -a prints each address before its lines.
    std::ostringstream command;
    command << "addr2line -a -i -e '" << library << "'" << std::hex;
    for (const std::uintptr_t pc : pcs) command << " 0x" << locate(pc).offset - 1;
    command << " 2>/dev/null";
    std::size_t next = 0;
    for (const std::string& text : output_lines(command.str())) {
      if (text.rfind("0x", 0) == 0) {
        ++next;
        continue;
      }
      if (next == 0 || next > pcs.size()) continue;
      SourceLine& found = known_lines()[pcs[next - 1]];
      const bool own_header = found.file.find("include/emulator/") != std::string::npos;
      if (found.file.empty() || own_header) found = parse(text);
    }
  }
}

}  // namespace

std::vector<SourceLine> source_lines(const std::vector<Site>& sites) {
  std::vector<std::uintptr_t> unknown;
  for (const Site& site : sites) {
    if (site.location.file == nullptr && site.pc != 0 && known_lines().emplace(site.pc, SourceLine{}).second) {
      unknown.push_back(site.pc);
    }
  }
  if (!unknown.empty()) look_up(unknown);
  std::vector<SourceLine> lines;
  for (const Site& site : sites) {
    if (site.location.file != nullptr) {
      lines.push_back({site.location.file, site.location.line});
    } else {
      lines.push_back(site.pc != 0 ? known_lines()[site.pc] : SourceLine{});
    }
  }
  return lines;
}

std::string kernel_name(const void* function) {
  Dl_info info;
  std::string name;
  if (dladdr(function, &info) != 0 && info.dli_saddr == function && info.dli_sname != nullptr) {
    name = info.dli_sname;
  } else {  // a function that the library does not export
    const Address address = locate(reinterpret_cast<std::uintptr_t>(function));
    std::ostringstream command;
    command << "addr2line -f -i -e '" << address.library << "' 0x" << std::hex << address.offset << " 2>/dev/null";
    const std::vector<std::string> lines = output_lines(command.str());
    // Name and line of what is inlined there, if anything is, and of what that is in; the function itself is last.
    name = lines.size() < 2 ? "kernel" : lines[lines.size() - 2];
  }
  int status = 0;
  char* demangled = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  if (status == 0) name = demangled;
  std::free(demangled);
  if (name.rfind("void ", 0) == 0) name.erase(0, 5);
  // The parameters begin at the parenthesis that the last one closes.
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    if (name[i] == ')') ++depth;
    if (name[i] == '(' && --depth == 0) return name.substr(0, i);
  }
  return name;
}

}  // namespace emulator
