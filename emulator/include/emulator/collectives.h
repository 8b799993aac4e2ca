// What the threads of a block or of a warp do together: barriers, shuffles, votes, matches, reductions.
#pragma once

#include "emulator/language.h"

namespace emulator {

enum class Collective : std::uint8_t {
  synchronise,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  vote,       // the lanes with a value other than 0
  match_any,  // the lanes with this lane's value
  match_all,  // the lanes that took part if all have one value, else 0
  reduce_add,
  reduce_min,
  reduce_max,
  reduce_and,
  reduce_or,
  reduce_xor,
};

// Waits for the lanes of the mask, and returns the calling lane's part of the result.
std::uint64_t warp_collective(Collective kind, unsigned mask, std::uint64_t value, int argument, int width,
                              Location at);

struct BarrierResult {
  unsigned count;    // threads with predicate != 0
  unsigned threads;  // threads that arrived
};
BarrierResult block_barrier(int predicate, Location at);
void grid_barrier(Location at);
void thread_fence();
void yield();  // lets other threads run, for code that waits in a loop

template <class T>
inline std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "warp collectives: expected at most 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
inline T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline unsigned vote(unsigned mask, int predicate, Location at) {
  return static_cast<unsigned>(warp_collective(Collective::vote, mask, predicate != 0, 0, 32, at));
}

// Values travel in 64 bits, sign and all, so that one comparison serves int and unsigned.
template <class T>
inline T reduce(Collective kind, unsigned mask, T value, Location at) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>, "__reduce_*_sync: expected int or unsigned");
  return static_cast<T>(
      warp_collective(kind, mask, static_cast<std::uint64_t>(static_cast<std::int64_t>(value)), 0, 32, at));
}

}  // namespace emulator

#define EMULATOR_CALLER ::emulator::Location at = {__builtin_FILE(), __builtin_LINE()}

inline void __syncthreads(EMULATOR_CALLER) { emulator::block_barrier(0, at); }
inline int __syncthreads_count(int predicate, EMULATOR_CALLER) {
  return static_cast<int>(emulator::block_barrier(predicate, at).count);
}
inline int __syncthreads_or(int predicate, EMULATOR_CALLER) {
  return emulator::block_barrier(predicate, at).count != 0;
}
inline int __syncthreads_and(int predicate, EMULATOR_CALLER) {
  const emulator::BarrierResult result = emulator::block_barrier(predicate, at);
  return result.count == result.threads;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATOR_CALLER) {
  emulator::warp_collective(emulator::Collective::synchronise, mask, 0, 0, 32, at);
}
inline void __threadfence() { emulator::thread_fence(); }
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) { emulator::yield(); }

#define EMULATOR_SHUFFLE(name, kind, Argument)                                                                       \
  template <class T>                                                                                                 \
  inline T name(unsigned mask, T value, Argument argument, int width = 32, EMULATOR_CALLER) {                        \
    return emulator::from_bits<T>(emulator::warp_collective(                                                         \
        emulator::Collective::kind, mask, emulator::to_bits(value), static_cast<int>(argument), width, at));         \
  }
EMULATOR_SHUFFLE(__shfl_sync, shuffle, int)
EMULATOR_SHUFFLE(__shfl_up_sync, shuffle_up, unsigned)
EMULATOR_SHUFFLE(__shfl_down_sync, shuffle_down, unsigned)
EMULATOR_SHUFFLE(__shfl_xor_sync, shuffle_xor, int)
#undef EMULATOR_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATOR_CALLER) {
  return emulator::vote(mask, predicate, at);
}
inline int __any_sync(unsigned mask, int predicate, EMULATOR_CALLER) {
  return emulator::vote(mask, predicate, at) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATOR_CALLER) {
  return emulator::vote(mask, !predicate, at) == 0;
}
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, EMULATOR_CALLER) {
  return static_cast<unsigned>(
      emulator::warp_collective(emulator::Collective::match_any, mask, emulator::to_bits(value), 0, 32, at));
}
template <class T>
inline unsigned __match_all_sync(unsigned mask, T value, int* same, EMULATOR_CALLER) {
  const auto lanes = static_cast<unsigned>(
      emulator::warp_collective(emulator::Collective::match_all, mask, emulator::to_bits(value), 0, 32, at));
  *same = lanes != 0;
  return lanes;
}

#define EMULATOR_REDUCE(name, kind)                                                                                  \
  template <class T>                                                                                                 \
  inline T name(unsigned mask, T value, EMULATOR_CALLER) {                                                           \
    return emulator::reduce(emulator::Collective::kind, mask, value, at);                                            \
  }
EMULATOR_REDUCE(__reduce_add_sync, reduce_add)
EMULATOR_REDUCE(__reduce_min_sync, reduce_min)
EMULATOR_REDUCE(__reduce_max_sync, reduce_max)
EMULATOR_REDUCE(__reduce_and_sync, reduce_and)
EMULATOR_REDUCE(__reduce_or_sync, reduce_or)
EMULATOR_REDUCE(__reduce_xor_sync, reduce_xor)
#undef EMULATOR_REDUCE
