// Atomic operations. One thread runs at a time, so each is a plain read, change and write that the checks are told of.
#pragma once

#include "emulator/collectives.h"

namespace emulator {

// Checks the access, orders it with other atomic accesses of the address, and may let another thread go first.
void before_atomic(const void* address, std::size_t bytes, Location at);

template <class T, class Change>
EMULATOR_UNCHECKED inline T atomic(T* address, Location at, Change change) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8, "atomics: expected a type of 2, 4 or 8 bytes");
  before_atomic(address, sizeof(T), at);
  T old = *address;
  *address = change(old);
  return old;
}

}  // namespace emulator

#define EMULATOR_ATOMIC(name, result)                                                                                \
  template <class T>                                                                                                 \
  inline T name(T* address, emulator::identity_t<T> value, EMULATOR_CALLER) {                                        \
    return emulator::atomic(address, at, [value](T old) { return static_cast<T>(result); });                         \
  }                                                                                                                  \
  template <class T>                                                                                                 \
  inline T name##_block(T* address, emulator::identity_t<T> value, EMULATOR_CALLER) {                                \
    return name(address, value, at);                                                                                 \
  }
EMULATOR_ATOMIC(atomicAdd, old + value)
EMULATOR_ATOMIC(atomicSub, old - value)
EMULATOR_ATOMIC(atomicMax, old < value ? value : old)
EMULATOR_ATOMIC(atomicMin, value < old ? value : old)
EMULATOR_ATOMIC(atomicExch, (static_cast<void>(old), value))
EMULATOR_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
EMULATOR_ATOMIC(atomicDec, old == 0 || old > value ? value : T(old - 1))
EMULATOR_ATOMIC(atomicAnd, old & value)
EMULATOR_ATOMIC(atomicOr, old | value)
EMULATOR_ATOMIC(atomicXor, old ^ value)
#undef EMULATOR_ATOMIC

template <class T>
inline T atomicCAS(T* address, emulator::identity_t<T> expected, emulator::identity_t<T> value, EMULATOR_CALLER) {
  return emulator::atomic(address, at, [expected, value](T old) { return old == expected ? value : old; });
}
