#include "shared_memory.h"

#include <link.h>

#include <algorithm>
#include <cstring>

#include "emulator/language.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

namespace emulator {
namespace {

// Larger than any block may have, so that an access behind the end hits nothing else.
constexpr std::size_t dynamic_capacity = 512 << 10;
alignas(1024) unsigned char dynamic_bytes[dynamic_capacity];

thread_local volatile char anchor;  // touching it makes glibc allocate the library's thread-local variables

struct Search {
  std::uintptr_t inside;
  Range module, variables;
};

int visit(dl_phdr_info* info, std::size_t, void* data) {
  auto* search = static_cast<Search*>(data);
  Range module{UINTPTR_MAX, 0};
  std::size_t variables_size = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    const std::uintptr_t low = info->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD) {
      module.low = std::min(module.low, low);
      module.high = std::max(module.high, low + header.p_memsz);
    }
    if (header.p_type == PT_TLS) variables_size = header.p_memsz;
  }
  if (!module.contains(search->inside)) return 0;
  const auto variables = reinterpret_cast<std::uintptr_t>(info->dlpi_tls_data);
  search->module = module;
  search->variables = {variables, variables + variables_size};
  return 1;
}

}  // namespace

void* dynamic_shared_memory() { return dynamic_bytes; }

void SharedMemory::open(std::size_t shared_bytes) {
  anchor = 0;
  Search search{reinterpret_cast<std::uintptr_t>(&visit), {}, {}};
  dl_iterate_phdr(visit, &search);
  module_ = search.module;
  variables_ = search.variables;
  const auto dynamic = reinterpret_cast<std::uintptr_t>(dynamic_bytes);
  dynamic_ = {dynamic, dynamic + shared_bytes};
  dynamic_area_ = {dynamic, dynamic + dynamic_capacity};
  const auto* contents = reinterpret_cast<const char*>(variables_.low);
  host_contents_.assign(contents, contents + variables_.size());
  ASAN_POISON_MEMORY_REGION(dynamic_bytes + shared_bytes, dynamic_capacity - shared_bytes);
}

void SharedMemory::close() {
  ASAN_UNPOISON_MEMORY_REGION(dynamic_bytes, dynamic_capacity);
  std::copy(host_contents_.begin(), host_contents_.end(), reinterpret_cast<char*>(variables_.low));
}

void SharedMemory::fill_with_nan() {
  std::memset(reinterpret_cast<void*>(variables_.low), 0xff, variables_.size());
  std::memset(dynamic_bytes, 0xff, dynamic_.size());
}

std::vector<char> SharedMemory::save() const {
  const auto* variables = reinterpret_cast<const char*>(variables_.low);
  std::vector<char> contents(variables, variables + variables_.size());
  contents.insert(contents.end(), dynamic_bytes, dynamic_bytes + dynamic_.size());
  return contents;
}

void SharedMemory::restore(const std::vector<char>& contents) {
  const auto middle = contents.begin() + static_cast<std::ptrdiff_t>(variables_.size());
  std::copy(contents.begin(), middle, reinterpret_cast<char*>(variables_.low));
  std::copy(middle, contents.end(), dynamic_bytes);
}

}  // namespace emulator
