#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t stack_pages = 64;  // 256 KB: AddressSanitizer's frames are large
// One guard page below each stack. The odd distance of 65 pages puts the busy tops into different cache sets.
constexpr std::size_t stack_distance = (stack_pages + 1) * page;
constexpr unsigned slab = 64;
constexpr unsigned most_guards = 16384;  // a guard costs a mapping, and Linux allows a process 65530
constexpr unsigned colours = 32;         // tops of neighbouring stacks differ by 128 bytes, for the first-level cache

}  // namespace

void StackPool::grow() {
  void* memory = mmap(nullptr, slab * stack_distance, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  char* low = static_cast<char*>(memory);
  free_.reserve(free_.size() + slab);
  for (unsigned i = slab; i-- > 0;) {
    char* guard = low + i * stack_distance;
    if (count_ + i < most_guards) mprotect(guard, page, PROT_NONE);
    free_.push_back({guard + page, stack_pages * page, count_ + i});
  }
  count_ += slab;
}

Stack StackPool::acquire() {
  if (free_.empty()) grow();
  const Stack stack = free_.back();
  free_.pop_back();
  return stack;
}

#if defined(EMULATOR_OWN_SWITCH)

// The six registers that a call preserves in the System V ABI go to the old stack and come from the new one; `ret` then
// returns to where the new context last called this function, or into its entry.
extern "C" void emulator_switch_stacks(void** save, void* load);
asm(R"(
.text
.hidden emulator_switch_stacks
.globl emulator_switch_stacks
.type emulator_switch_stacks, @function
emulator_switch_stacks:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size emulator_switch_stacks, . - emulator_switch_stacks
)");

void prepare(Context& context, const Stack& stack, void (*entry)()) {
  auto** top = reinterpret_cast<void**>(stack.low + stack.size - stack.number % colours * 128);
  *--top = nullptr;                         // entry's return address, which also aligns its frame
  *--top = reinterpret_cast<void*>(entry);  // popped by `ret`
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stack_pointer = top;
  context.low = stack.low;
  context.size = stack.size;
  context.fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(stack.low, stack.size);  // the last user left in the middle of its frames
#endif
}

static void switch_registers(Context& from, Context& to) {
  emulator_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

#else  // slower, as it also switches signal masks, but it works on every processor

void prepare(Context& context, const Stack& stack, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack.low;
  context.registers.uc_stack.ss_size = stack.size;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
  context.low = stack.low;
  context.size = stack.size;
  context.fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(stack.low, stack.size);
#endif
}

static void switch_registers(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

#endif

#if defined(__SANITIZE_ADDRESS__)

void entered_from(Context& caller) { __sanitizer_finish_switch_fiber(nullptr, &caller.low, &caller.size); }

void switch_context(Context& from, Context& to, bool from_is_over) {
  __sanitizer_start_switch_fiber(from_is_over ? nullptr : &from.fake_stack, to.low, to.size);
  switch_registers(from, to);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
}

#else

void entered_from(Context&) {}
void switch_context(Context& from, Context& to, bool) { switch_registers(from, to); }

#endif

}  // namespace emulator
