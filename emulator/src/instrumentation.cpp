// The functions that g++ calls before every access to memory (-fsanitize=thread), before an access through a pointer of
// the wrong alignment (-fsanitize=alignment), and before an array index out of range (-fsanitize=bounds).
// The names and arguments are those of the sanitizers' runtime libraries, which are not linked.
#include "memory_checks.h"
#include "settings.h"

using namespace emulator;

namespace {

inline void check(const void* address, std::size_t bytes, Access access, void* return_address) {
  if (running == nullptr || (!settings().check && !settings().statistics)) return;
  memory_checks().access(reinterpret_cast<std::uintptr_t>(address), bytes, access,
                         {{nullptr, 0}, reinterpret_cast<std::uintptr_t>(return_address)});
}

struct SourceLocation {
  const char* file;
  std::uint32_t line, column;
};

struct TypeDescriptor {
  std::uint16_t kind, info;
  char name[1];
};

struct TypeMismatch {
  SourceLocation location;
  const TypeDescriptor* type;
  unsigned char log_alignment;
  unsigned char kind;
};

struct OutOfBounds {
  SourceLocation location;
  const TypeDescriptor* array;
  const TypeDescriptor* index;
};

Site site(const SourceLocation& location) { return {{location.file, static_cast<int>(location.line)}}; }

}  // namespace

extern "C" {

#define EMULATOR_HOOK(bytes)                                                                                         \
  void __tsan_read##bytes(void* p) { check(p, bytes, Access::read, __builtin_return_address(0)); }                   \
  void __tsan_write##bytes(void* p) { check(p, bytes, Access::write, __builtin_return_address(0)); }                 \
  void __tsan_unaligned_read##bytes(void* p) { check(p, bytes, Access::read, __builtin_return_address(0)); }         \
  void __tsan_unaligned_write##bytes(void* p) { check(p, bytes, Access::write, __builtin_return_address(0)); }       \
  void __tsan_volatile_read##bytes(void* p) { check(p, bytes, Access::read, __builtin_return_address(0)); }          \
  void __tsan_volatile_write##bytes(void* p) { check(p, bytes, Access::write, __builtin_return_address(0)); }
EMULATOR_HOOK(1)
EMULATOR_HOOK(2)
EMULATOR_HOOK(4)
EMULATOR_HOOK(8)
EMULATOR_HOOK(16)
#undef EMULATOR_HOOK

void __tsan_read_range(void* p, std::size_t bytes) { check(p, bytes, Access::read, __builtin_return_address(0)); }
void __tsan_write_range(void* p, std::size_t bytes) { check(p, bytes, Access::write, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void*, void*) {}

// std::atomic, which launchers may use, becomes calls as well; they do what they would have done.
#define EMULATOR_FETCH(bits, name)                                                                                   \
  std::uint##bits##_t __tsan_atomic##bits##_##name(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int) {    \
    return __atomic_##name(p, v, __ATOMIC_SEQ_CST);                                                                  \
  }
#define EMULATOR_ATOMIC_HOOKS(bits)                                                                                  \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* p, int) {                       \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                     \
  }                                                                                                                  \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int) {                    \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                        \
  }                                                                                                                  \
  std::uint##bits##_t __tsan_atomic##bits##_exchange(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int) {  \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                                              \
  }                                                                                                                  \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected, \
                                                     std::uint##bits##_t v, int, int) {                              \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
  }                                                                                                                  \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected,   \
                                                   std::uint##bits##_t v, int, int) {                                \
    return __atomic_compare_exchange_n(p, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                    \
  }                                                                                                                  \
  EMULATOR_FETCH(bits, fetch_add)                                                                                    \
  EMULATOR_FETCH(bits, fetch_sub)                                                                                    \
  EMULATOR_FETCH(bits, fetch_and)                                                                                    \
  EMULATOR_FETCH(bits, fetch_or)                                                                                     \
  EMULATOR_FETCH(bits, fetch_xor)
EMULATOR_ATOMIC_HOOKS(8)
EMULATOR_ATOMIC_HOOKS(32)
EMULATOR_ATOMIC_HOOKS(64)
#undef EMULATOR_ATOMIC_HOOKS
#undef EMULATOR_FETCH

void __ubsan_handle_type_mismatch_v1(const TypeMismatch* data, std::uintptr_t address) {
  if (running == nullptr || !settings().check) return;
  const std::uintptr_t alignment = std::uintptr_t{1} << data->log_alignment;
  report("misaligned access",
         std::string("an access of type ") + data->type->name + " at an address " +
             std::to_string(address % alignment) + " bytes behind a multiple of " + std::to_string(alignment),
         site(data->location));
  current_launch()->abandon(cudaErrorMisalignedAddress);
}

void __ubsan_handle_out_of_bounds(const OutOfBounds* data, std::uintptr_t index) {
  if (running == nullptr || !settings().check) return;
  report("out of bounds",
         "index " + std::to_string(static_cast<std::intptr_t>(index)) + " of an array of type " + data->array->name,
         site(data->location));
  current_launch()->abandon(cudaErrorIllegalAddress);
}
}
