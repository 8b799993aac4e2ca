// Threads of control that are switched by hand: a stack, and the registers that a call preserves.
#pragma once

#include <cstddef>
#include <vector>

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
#define EMULATOR_OWN_SWITCH
#else
#include <ucontext.h>
#endif

namespace emulator {

struct Stack {
  char* low = nullptr;
  std::size_t size = 0;
  unsigned number = 0;
};

// Hands out the stack that came back last, which is still in the cache: a kernel without barriers runs on one stack.
class StackPool {
 public:
  Stack acquire();
  void release(Stack stack) { free_.push_back(stack); }

 private:
  void grow();

  std::vector<Stack> free_;
  unsigned count_ = 0;
};

struct Context {
#if defined(EMULATOR_OWN_SWITCH)
  void* stack_pointer = nullptr;
#else
  ucontext_t registers;
#endif
  // What AddressSanitizer needs to follow a switch.
  const void* low = nullptr;
  std::size_t size = 0;
  void* fake_stack = nullptr;
};

// The first switch to the context calls `entry`, which must begin with entered_from() and must never return.
void prepare(Context& context, const Stack& stack, void (*entry)());
void entered_from(Context& caller);
void switch_context(Context& from, Context& to, bool from_is_over = false);

}  // namespace emulator
