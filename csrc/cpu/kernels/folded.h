// Ops whose batch norms are folded into their weights, as the ops with batch norms that change nothing but by their bias:
// mean 0, variance 1, weight 1, eps 0. So there is one way through the maps for both.
#pragma once

#include "cpu/kernels/training.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

// Weights in the type that is summed in, which is what ops with batch norms read. Without memory it only counts.
template <class T>
class FoldedWeights {
 public:
  using A = acc_t<T>;
  FoldedWeights(Cutter& cutter, int most_channels)
      : cutter_(cutter), ones_(filled(most_channels, 1)), zeros_(filled(most_channels, 0)) {}

  const A* widened(const void* from, std::int64_t count) {
    A* to = cutter_.cut<A>(count);
    for (std::int64_t i = 0; to != nullptr && i < count; i += kLanes<A>) {
      const int lanes = static_cast<int>(count - i < kLanes<A> ? count - i : kLanes<A>);
      store(to + i, load(static_cast<const T*>(from) + i, lanes), lanes);
    }
    return to;
  }

  // [columns][rows] from [rows][columns]
  const A* transposed(const void* from, int rows, int columns) {
    const A* straight = widened(from, static_cast<std::int64_t>(rows) * columns);
    A* to = cutter_.cut<A>(static_cast<std::int64_t>(rows) * columns);
    for (int row = 0; to != nullptr && row < rows; ++row)
      for (int column = 0; column < columns; ++column)
        to[static_cast<std::int64_t>(column) * rows + row] = straight[static_cast<std::int64_t>(row) * columns + column];
    return to;
  }

  BatchNorm bias(const void* from, int channels) {
    return {ones_, widened(from, channels), zeros_, ones_, nullptr};
  }

 private:
  A* filled(int count, A value) {
    A* to = cutter_.cut<A>(count);
    for (int i = 0; to != nullptr && i < count; ++i) to[i] = value;
    return to;
  }

  Cutter& cutter_;
  A *ones_, *zeros_;
};

// What is left of a team's scratch memory behind a cutter's buffers.
inline Team behind(const Cutter& cutter, const Team& team) {
  return {team.pool, team.threads, static_cast<unsigned char*>(team.scratch) + cutter.bytes()};
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
