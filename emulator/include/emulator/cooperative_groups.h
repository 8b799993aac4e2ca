// Cooperative groups: the grid, the block, and tiles of a warp.
#pragma once

#include "emulator/collectives.h"

namespace cooperative_groups {

class grid_group {
 public:
  void sync(EMULATOR_CALLER) const { emulator::grid_barrier(at); }
  unsigned long long num_blocks() const {
    return static_cast<unsigned long long>(gridDim.x) * gridDim.y * gridDim.z;
  }
  unsigned long long block_rank() const {
    return blockIdx.x + static_cast<unsigned long long>(gridDim.x) * (blockIdx.y + gridDim.y * blockIdx.z);
  }
  unsigned long long size() const { return num_blocks() * blockDim.x * blockDim.y * blockDim.z; }
  unsigned long long num_threads() const { return size(); }
  unsigned long long thread_rank() const {
    return block_rank() * (blockDim.x * blockDim.y * blockDim.z) + threadIdx.x +
           blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  }
  bool is_valid() const { return true; }
};

class thread_block {
 public:
  void sync(EMULATOR_CALLER) const { emulator::block_barrier(0, at); }
  unsigned size() const { return blockDim.x * blockDim.y * blockDim.z; }
  unsigned num_threads() const { return size(); }
  unsigned thread_rank() const { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
  dim3 group_index() const { return blockIdx; }
  dim3 thread_index() const { return threadIdx; }
  dim3 dim_threads() const { return blockDim; }
};

template <unsigned Size>
class thread_block_tile {
  static_assert(Size >= 1 && Size <= 32 && (Size & (Size - 1)) == 0, "tiled_partition: expected a power of 2 up to 32");

 public:
  explicit thread_block_tile(unsigned rank_in_block) : rank_in_block_(rank_in_block) {}

  void sync(EMULATOR_CALLER) const { __syncwarp(mask(), at); }
  static constexpr unsigned size() { return Size; }
  static constexpr unsigned num_threads() { return Size; }
  unsigned thread_rank() const { return rank_in_block_ % Size; }
  unsigned meta_group_rank() const { return rank_in_block_ / Size; }
  unsigned meta_group_size() const { return (thread_block().size() + Size - 1) / Size; }

  template <class T>
  T shfl(T value, int rank, EMULATOR_CALLER) const {
    return __shfl_sync(mask(), value, rank, Size, at);
  }
  template <class T>
  T shfl_up(T value, unsigned delta, EMULATOR_CALLER) const {
    return __shfl_up_sync(mask(), value, delta, Size, at);
  }
  template <class T>
  T shfl_down(T value, unsigned delta, EMULATOR_CALLER) const {
    return __shfl_down_sync(mask(), value, delta, Size, at);
  }
  template <class T>
  T shfl_xor(T value, int lanes, EMULATOR_CALLER) const {
    return __shfl_xor_sync(mask(), value, lanes, Size, at);
  }
  int any(int predicate, EMULATOR_CALLER) const { return __any_sync(mask(), predicate, at); }
  int all(int predicate, EMULATOR_CALLER) const { return __all_sync(mask(), predicate, at); }
  unsigned ballot(int predicate, EMULATOR_CALLER) const { return __ballot_sync(mask(), predicate, at) >> first_lane(); }

 private:
  unsigned first_lane() const { return rank_in_block_ % 32 / Size * Size; }
  unsigned mask() const { return (0xffffffffu >> (32 - Size)) << first_lane(); }

  unsigned rank_in_block_;
};

inline grid_group this_grid() { return {}; }
inline thread_block this_thread_block() { return {}; }
template <unsigned Size>
inline thread_block_tile<Size> tiled_partition(const thread_block& block) {
  return thread_block_tile<Size>(block.thread_rank());
}
template <class Group>
inline void sync(const Group& group, EMULATOR_CALLER) {
  group.sync(at);
}

}  // namespace cooperative_groups
