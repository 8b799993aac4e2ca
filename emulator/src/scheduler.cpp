#include "scheduler.h"

#include <algorithm>
#include <numeric>

#include "memory_checks.h"
#include "reports.h"
#include "settings.h"
#include "statistics.h"

namespace emulator {

const Coordinates* running = nullptr;

namespace {

Launch* current = nullptr;

StackPool& stacks() {
  static StackPool pool;
  return pool;
}

uint3 index_of(std::uint32_t rank, dim3 size) {
  return {rank % size.x, rank / size.x % size.y, rank / size.x / size.y};
}

}  // namespace

Launch* current_launch() { return current; }
Thread* current_thread() { return const_cast<Thread*>(static_cast<const Thread*>(running)); }

Launch::Launch(const Kernel& kernel, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative)
    : kernel_(kernel), grid_(grid), block_(block), cooperative_(cooperative), seed_(settings().seed) {
  random_.seed(seed_);
  shared_memory_.open(shared_bytes);
  current = this;
  memory_checks().begin(*this);
}

Launch::~Launch() {
  memory_checks().end();
  current = nullptr;
  shared_memory_.close();
}

cudaError_t Launch::run() {
  const std::vector<std::uint32_t> order = block_order();
  if (cooperative_) {
    run_together(order);
  } else {
    run_one_by_one(order);
  }
  return error_;
}

void Launch::run_one_by_one(const std::vector<std::uint32_t>& order) {
  Block block;
  for (const std::uint32_t rank : order) {
    start(block, rank);
    shared_memory_.fill_with_nan();
    run_ready(block);
    if (!abandoned_ && !block.over()) explain_standstill(block);
    if (abandoned_) break;
  }
  for (Thread& thread : block.threads) {
    if (thread.stack.low != nullptr) stacks().release(thread.stack);
  }
}

// Every block runs until its threads have ended or wait for the grid; then all go on from there.
void Launch::run_together(const std::vector<std::uint32_t>& order) {
  std::vector<Block> blocks(order.size());
  shared_memory_.fill_with_nan();
  for (std::uint32_t rank = 0; rank < blocks.size(); ++rank) {
    start(blocks[rank], rank);
    blocks[rank].shared_contents = shared_memory_.save();
  }
  bool over = false;
  while (!over && !abandoned_) {
    over = true;
    for (const std::uint32_t rank : order) {
      Block& block = blocks[rank];
      if (block.over()) continue;
      shared_memory_.restore(block.shared_contents);
      run_ready(block);
      if (!abandoned_ && block.at_grid_barrier != block.alive()) explain_standstill(block);
      if (abandoned_) break;
      block.shared_contents = shared_memory_.save();
      over = over && block.over();
    }
    if (!over && !abandoned_) release_grid_barrier(blocks);
  }
  for (Block& block : blocks) {
    for (Thread& thread : block.threads) {
      if (thread.stack.low != nullptr) stacks().release(thread.stack);
    }
  }
}

std::vector<std::uint32_t> Launch::block_order() {
  std::vector<std::uint32_t> order(blocks());
  std::iota(order.begin(), order.end(), 0u);
  if (seed_ == 1) std::reverse(order.begin(), order.end());
  if (seed_ > 1) std::shuffle(order.begin(), order.end(), random_);
  return order;
}

void Launch::start(Block& block, std::uint32_t rank) {
  block.rank = rank;
  block.index = index_of(rank, grid_);
  block.exited = block.at_barrier = block.at_grid_barrier = block.predicates = 0;
  block.ready.clear();
  block.next = 0;
  block.threads.resize(threads_per_block());
  block.warps.assign((block.threads.size() + 31) / 32, {});
  for (unsigned i = 0; i < block.threads.size(); ++i) {
    Thread& thread = block.threads[i];
    thread.thread_index = index_of(i, block_);
    thread.block_index = block.index;
    thread.block_size = block_;
    thread.grid_size = grid_;
    thread.block = &block;
    thread.rank = i;
    thread.lane = i % 32;
    block.warp_of(thread).existing |= thread.bit();
    make_ready(thread);
  }
  shuffle_ready(block, 0);
  memory_checks().begin_block(block);
}

void Launch::run_ready(Block& block) {
  while (block.next < block.ready.size() && !abandoned_) {
    Thread& thread = *block.ready[block.next++];
    if (block.next == block.ready.size()) {
      block.ready.clear();
      block.next = 0;
    }
    resume(thread);
  }
  if (settings().statistics) statistics().end_phase();
}

void Launch::resume(Thread& thread) {
  if (thread.stack.low == nullptr) {
    thread.stack = stacks().acquire();
    prepare(thread.context, thread.stack, enter);
  }
  running = &thread;
  switch_context(host_, thread.context);
  running = nullptr;
  if (thread.state == State::exited) {
    stacks().release(thread.stack);
    thread.stack = {};
  }
}

void Launch::enter() {
  entered_from(current->host_);
  current->kernel_.call(current->kernel_.arguments);
  Thread& thread = *current_thread();
  current->exit(thread);
  switch_context(thread.context, current->host_, true);
}

void Launch::exit(Thread& thread) {
  Block& block = *thread.block;
  thread.state = State::exited;
  block.warp_of(thread).exited |= thread.bit();
  ++block.exited;
  complete_collectives(*this, thread);
  if (block.at_barrier != 0 && block.at_barrier == block.alive()) release_barrier(block);
}

void Launch::suspend(Thread& thread) { switch_context(thread.context, host_); }

void Launch::make_ready(Thread& thread) {
  leave_collective(thread);
  thread.block->ready.push_back(&thread);
}

void Launch::leave_collective(Thread& thread) {
  thread.state = State::ready;
  thread.block->warp_of(thread).at_collective &= ~thread.bit();
}

void Launch::shuffle_ready(Block& block, std::size_t first) {
  const auto begin = block.ready.begin() + static_cast<std::ptrdiff_t>(first);
  if (seed_ == 1) std::reverse(begin, block.ready.end());
  if (seed_ > 1) std::shuffle(begin, block.ready.end(), random_);
}

void Launch::yield(Thread& thread) {
  make_ready(thread);
  suspend(thread);
}

// Random orders differ at atomics too. In the other orders a thread that waits in a loop must not wait for ever.
void Launch::let_others_go_first(Thread& thread) {
  constexpr std::uint64_t patience = 4096;
  if (seed_ > 1 || ++atomics_ % patience == 0) yield(thread);
}

BarrierResult Launch::block_barrier(Thread& thread, int predicate, Location at) {
  Block& block = *thread.block;
  block.predicates += predicate != 0;
  thread.state = State::at_barrier;
  thread.waits_at = at;
  if (++block.at_barrier == block.alive()) release_barrier(block);
  suspend(thread);
  return {static_cast<unsigned>(thread.result), static_cast<unsigned>(thread.result >> 32)};
}

void Launch::release_barrier(Block& block) {
  const Thread* first = nullptr;
  const Thread* gone = nullptr;
  const std::uint64_t result = block.predicates | static_cast<std::uint64_t>(block.at_barrier) << 32;
  const std::size_t ready = block.ready.size();
  for (Thread& thread : block.threads) {
    if (thread.state == State::exited) {
      gone = &thread;
      continue;
    }
    if (first == nullptr) first = &thread;
    if (thread.waits_at.line != first->waits_at.line || thread.waits_at.file != first->waits_at.file) {
      report_about(thread, "divergent barrier",
                   "threads of one block wait at different barriers, this one and thread " +
                       std::to_string(first->rank),
                   {thread.waits_at}, "", {first->waits_at});
    }
    thread.result = result;
    make_ready(thread);
  }
  if (gone != nullptr) {
    report_about(*gone, "barrier not reached", "the thread has ended, and other threads of its block wait at a barrier",
                 {first->waits_at});
  }
  block.at_barrier = block.predicates = 0;
  memory_checks().block_barrier(block);
  shuffle_ready(block, ready);
}

void Launch::grid_barrier(Thread& thread, Location at) {
  if (!cooperative_) {
    report("grid barrier", "grid.sync() in a launch that is not cooperative", {at});
    abandon(cudaErrorLaunchFailure);
  }
  ++thread.block->at_grid_barrier;
  thread.state = State::at_grid_barrier;
  thread.waits_at = at;
  suspend(thread);
}

void Launch::release_grid_barrier(std::vector<Block>& blocks) {
  const Thread* waiting = nullptr;
  const Thread* gone = nullptr;
  for (Block& block : blocks) {
    for (Thread& thread : block.threads) {
      if (thread.state == State::exited) {
        gone = &thread;
      } else {
        waiting = &thread;
        make_ready(thread);
      }
    }
    block.at_grid_barrier = 0;
    shuffle_ready(block, 0);
  }
  if (gone != nullptr) {
    report_about(*gone, "grid barrier", "the thread has ended, and other threads of the grid wait at grid.sync()",
                 {waiting->waits_at});
    abandoned_ = true;
  }
  memory_checks().grid_barrier(blocks);
}

void Launch::explain_standstill(Block& block) {
  std::array<unsigned, 5> states{};
  const Thread* waiting = nullptr;
  const Thread* other = nullptr;  // waits elsewhere
  for (const Thread& thread : block.threads) {
    ++states[static_cast<std::size_t>(thread.state)];
    if (thread.state == State::exited) continue;
    if (waiting == nullptr) {
      waiting = &thread;
    } else if (other == nullptr && (thread.waits_at.line != waiting->waits_at.line || thread.state != waiting->state)) {
      other = &thread;
    }
  }
  const auto count = [&](State state) { return std::to_string(states[static_cast<std::size_t>(state)]); };
  report_about(*waiting, "deadlock",
               "no thread of the block can go on: " + count(State::at_barrier) + " wait at a barrier, " +
                   count(State::at_collective) + " in a warp collective, " + count(State::at_grid_barrier) +
                   " at grid.sync(), and " + count(State::exited) + " have ended",
               {waiting->waits_at}, "", other != nullptr ? Site{other->waits_at} : Site{});
  abandoned_ = true;
}

void Launch::fail(cudaError_t error) {
  if (error_ == cudaSuccess) error_ = error;
}

void Launch::abandon(cudaError_t error) {
  error_ = error;
  abandoned_ = true;
  switch_context(current_thread()->context, host_, true);
  __builtin_unreachable();
}

BarrierResult block_barrier(int predicate, Location at) {
  return current->block_barrier(*current_thread(), predicate, at);
}
void grid_barrier(Location at) { current->grid_barrier(*current_thread(), at); }
void yield() { current->yield(*current_thread()); }
void thread_fence() { memory_checks().fence(*current_thread()); }

}  // namespace emulator
