// Scratch memory that a thread keeps from one call to the next, because to get and to clear fresh pages costs as much as
// a tenth of a network's forward pass.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace litehrnet::cpu {

class Scratch {
 public:
  // At a multiple of 4096. What was there before is lost. For AddressSanitizer it is not larger than that, and NaN.
  void* at_least(std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    memory_.reset(std::aligned_alloc(64, bytes));
    return std::memset(memory_.get(), 255, bytes);
#endif
    if (bytes > bytes_) {
      bytes_ = 0;
      memory_.reset();
      memory_.reset(std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage));
      if (memory_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
    }
    return memory_.get();
  }

  // Gives back what is larger than that.
  void keep_at_most(std::size_t bytes) {
    if (bytes_ <= bytes) return;
    bytes_ = 0;
    memory_.reset();
  }

 private:
  static constexpr std::size_t kPage = 4096;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace litehrnet::cpu
