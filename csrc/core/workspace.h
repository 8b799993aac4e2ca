// Cuts one allocation into the parts that the launches of an op pass on to one another.
#pragma once

#include "core/common.h"

namespace litehrnet {

class Workspace {
 public:
  // `base` may be null while only the size is asked for.
  explicit Workspace(void* base) : base_(static_cast<unsigned char*>(base)) {}

  // The next `bytes` bytes, at a multiple of 256 as cudaMalloc aligns; null without a base.
  void* reserve(std::size_t bytes) {
    const std::size_t offset = bytes_;
    bytes_ += round_up<std::size_t>(bytes, 256);
    return base_ == nullptr ? nullptr : base_ + offset;
  }

  std::size_t bytes() const { return bytes_; }

 private:
  unsigned char* base_;
  std::size_t bytes_ = 0;
};

}  // namespace litehrnet
