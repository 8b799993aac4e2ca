// Branches as kernels want them: rows and planes contiguous, any stride between planes and images.
#pragma once

#include "ops/checks.h"

namespace litehrnet {

// A view that kernels can read: the tensor itself if its planes are contiguous (a half of the channels is such a view), else a copy.
inline Tensor with_contiguous_planes(const Tensor& x) {
  const bool rows = x.size(3) == 1 || x.stride(3) == 1;
  const bool planes = x.size(2) == 1 || x.stride(2) == x.size(3);
  return rows && planes ? x : torch::stable::contiguous(x);
}

// Whether PyTorch would say that a tensor has the memory format channels_last and not the default one. The stable ABI
// does not tell, so the strides are compared: those of dimensions of size 1 say nothing.
inline bool is_channels_last(const Tensor& x) {
  if (x.is_contiguous()) return false;
  const int64_t expected[4] = {x.size(1) * x.size(2) * x.size(3), 1, x.size(1) * x.size(3), x.size(1)};
  for (int axis = 0; axis < 4; ++axis)
    if (x.size(axis) != 1 && x.stride(axis) != expected[axis]) return false;
  return true;
}

// Kernels write NCHW; a channels_last input gets a channels_last output.
inline Tensor in_format_of(const Tensor& y, const Tensor& x) {
  return is_channels_last(x) ? torch::stable::contiguous(y, MemoryFormat::ChannelsLast) : y;
}

inline Tensor new_map(const Tensor& x, int64_t channels) {
  const int64_t sizes[4] = {x.size(0), channels, x.size(2), x.size(3)};
  return torch::stable::new_empty(x, {sizes, 4}, std::nullopt, std::nullopt, std::nullopt, std::nullopt);
}

// Memory for what an op's launches pass on to one another.
inline Tensor new_workspace(const Tensor& x, size_t bytes) {
  const int64_t sizes[1] = {static_cast<int64_t>(bytes)};
  return torch::stable::new_empty(x, {sizes, 1}, ScalarType::Byte, std::nullopt, std::nullopt, std::nullopt);
}

template <class Branch>
void set_sizes(Branch& branch, const Tensor& x, int64_t channels) {
  branch.channels = static_cast<int>(channels);
  branch.height = static_cast<int>(x.size(2));
  branch.width = static_cast<int>(x.size(3));
}

}  // namespace litehrnet
