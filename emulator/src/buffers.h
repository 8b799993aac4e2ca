// The global memory that tests have told the emulator of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "shared_memory.h"

namespace emulator {

struct Buffer {
  Range range;
  std::string name;
  bool initialised = true;
};

class Buffers {
 public:
  void add(const Buffer& buffer) { by_address_[buffer.range.low] = buffer; }
  void remove(std::uintptr_t low) { by_address_.erase(low); }
  void clear() { by_address_.clear(); }
  bool empty() const { return by_address_.empty(); }

  const Buffer* find(std::uintptr_t address) const {
    auto next = by_address_.upper_bound(address);
    if (next == by_address_.begin()) return nullptr;
    const Buffer& buffer = std::prev(next)->second;
    return buffer.range.contains(address) ? &buffer : nullptr;
  }

  // The one with the smallest distance, to name in a report; there must be one.
  const Buffer& nearest(std::uintptr_t address) const {
    const auto next = by_address_.upper_bound(address);
    if (next == by_address_.begin()) return next->second;
    const Buffer& before = std::prev(next)->second;
    if (next == by_address_.end() || address - before.range.high < next->first - address) return before;
    return next->second;
  }

 private:
  std::map<std::uintptr_t, Buffer> by_address_;
};

}  // namespace emulator
