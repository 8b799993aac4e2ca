// Shadow memory: for every two bytes that kernels touch, who wrote them last and who has read them since.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace emulator {

constexpr std::size_t granule = 2;  // the smallest type of our kernels; single bytes are told apart by Mark::bytes

struct Mark {
  std::uint32_t time = 0;  // when the thread last synchronised before the access; 0: no access yet
  std::uint32_t block = 0;
  std::uint32_t site = 0;    // an index of MemoryChecks
  std::uint16_t thread = 0;  // rank in the block
  std::uint8_t bytes = 0;    // bit i: byte i of the granule
  bool atomic = false;

  bool same_thread(const Mark& other) const { return block == other.block && thread == other.thread; }
  bool same_warp(const Mark& other) const { return block == other.block && thread / 32 == other.thread / 32; }
};

struct Cell {
  Mark write;
  // The last read; the last one by another lane of its warp; the last one by another warp. One entry would forget that
  // other threads read too, and a write must be ordered after all of them.
  std::array<Mark, 3> reads;
  std::uint8_t written = 0;  // bit i: byte i of the granule has a value

  void remember_read(const Mark& mark) {
    Mark& last = reads[0];
    if (last.time != 0 && !last.same_thread(mark)) reads[last.same_warp(mark) ? 1 : 2] = last;
    last = mark;
  }
};

// Cells of arbitrary addresses, in pages that come into being when they are touched.
class Shadow {
 public:
  Cell& cell(std::uintptr_t address) {
    const std::uintptr_t number = address / page_bytes;
    if (number != last_number_ || last_ == nullptr) {
      std::unique_ptr<Page>& page = pages_[number];
      if (page == nullptr) page = std::make_unique<Page>();
      last_ = page.get();
      last_number_ = number;
    }
    return (*last_)[address % page_bytes / granule];
  }

  void clear() {
    pages_.clear();
    last_ = nullptr;
  }

 private:
  static constexpr std::size_t page_bytes = 512;
  using Page = std::array<Cell, page_bytes / granule>;

  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
  Page* last_ = nullptr;
  std::uintptr_t last_number_ = 0;
};

}  // namespace emulator
