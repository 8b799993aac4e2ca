// Collectives of a warp: lanes that name the same mask meet, exchange their values, and go on.
#include <algorithm>

#include "memory_checks.h"
#include "reports.h"
#include "scheduler.h"
#include "settings.h"

namespace emulator {
namespace {

template <class Visit>
void for_each_lane(unsigned mask, Visit visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<unsigned>(__builtin_ctz(mask)));
}

Thread* first_lane(Thread& thread) { return &thread.block->threads[thread.warp() * 32]; }

// The lane whose value a shuffle gives to this lane.
unsigned source_lane(const Thread& thread) {
  const Request& request = thread.request;
  const int lane = static_cast<int>(thread.lane);
  const int width = request.width;
  const int first = lane & ~(width - 1);
  int source = lane;
  switch (request.kind) {
    case Collective::shuffle: source = first + (request.argument & (width - 1)); break;
    case Collective::shuffle_up: source = lane - request.argument; break;
    case Collective::shuffle_down: source = lane + request.argument; break;
    default: source = lane ^ request.argument; break;
  }
  if (request.kind == Collective::shuffle_xor) return static_cast<unsigned>(source < first + width ? source : lane);
  return static_cast<unsigned>(source >= first && source < first + width ? source : lane);
}

std::uint64_t combine(Collective kind, std::uint64_t a, std::uint64_t b) {
  const auto x = static_cast<std::int64_t>(a);
  const auto y = static_cast<std::int64_t>(b);
  switch (kind) {
    case Collective::reduce_add: return a + b;
    case Collective::reduce_min: return static_cast<std::uint64_t>(std::min(x, y));
    case Collective::reduce_max: return static_cast<std::uint64_t>(std::max(x, y));
    case Collective::reduce_and: return a & b;
    case Collective::reduce_or: return a | b;
    default: return a ^ b;
  }
}

void shuffle(Thread* lanes, unsigned mask, unsigned alive) {
  for_each_lane(mask, [&](unsigned lane) {
    const unsigned source = source_lane(lanes[lane]);
    if (source < 32 && (mask >> source & 1u) != 0) {
      lanes[lane].result = lanes[source].request.value;
      return;
    }
    const bool named = source < 32 && (lanes[lane].request.mask >> source & 1u) != 0;
    const bool ended = named && (alive >> source & 1u) == 0;
    report_about(lanes[lane], "shuffle from an absent lane",
                 "a shuffle reads lane " + std::to_string(source) +
                     (ended ? ", which has ended" : ", which its mask does not name"),
                 {lanes[lane].waits_at});
    lanes[lane].result = 0x7fc0dead7fc0deadu;  // a NaN, as recognisable as garbage can be
  });
}

void exchange(Thread* lanes, unsigned mask, unsigned alive) {
  const Collective kind = lanes[__builtin_ctz(mask)].request.kind;
  const std::uint64_t first = lanes[__builtin_ctz(mask)].request.value;
  switch (kind) {
    case Collective::synchronise: return;
    case Collective::shuffle:
    case Collective::shuffle_up:
    case Collective::shuffle_down:
    case Collective::shuffle_xor: shuffle(lanes, mask, alive); return;
    case Collective::vote: {
      unsigned ballot = 0;
      for_each_lane(mask, [&](unsigned lane) { ballot |= (lanes[lane].request.value != 0 ? 1u : 0u) << lane; });
      for_each_lane(mask, [&](unsigned lane) { lanes[lane].result = ballot; });
      return;
    }
    case Collective::match_any:
      for_each_lane(mask, [&](unsigned lane) {
        unsigned same = 0;
        for_each_lane(mask, [&](unsigned other) {
          same |= (lanes[other].request.value == lanes[lane].request.value ? 1u : 0u) << other;
        });
        lanes[lane].result = same;
      });
      return;
    case Collective::match_all: {
      bool same = true;
      for_each_lane(mask, [&](unsigned lane) { same = same && lanes[lane].request.value == first; });
      for_each_lane(mask, [&](unsigned lane) { lanes[lane].result = same ? mask : 0; });
      return;
    }
    default: {
      std::uint64_t total = first;
      for_each_lane(mask & (mask - 1), [&](unsigned lane) { total = combine(kind, total, lanes[lane].request.value); });
      for_each_lane(mask, [&](unsigned lane) { lanes[lane].result = total; });
      return;
    }
  }
}

void check_same_collective(Thread* lanes, unsigned mask) {
  const Thread& first = lanes[__builtin_ctz(mask)];
  for_each_lane(mask, [&](unsigned lane) {
    const Thread& other = lanes[lane];
    if (other.request.kind == first.request.kind && other.waits_at.line == first.waits_at.line) return;
    report_about(other, "divergent collective",
                 "lanes of one mask meet in different warp collectives, this one and lane " +
                     std::to_string(first.lane),
                 {other.waits_at}, "", {first.waits_at});
  });
}

// The lanes that wait with this mask go on if all lanes that the mask names and that have not ended are here.
bool complete(Thread* lanes, const Warp& warp, unsigned mask) {
  const unsigned expected = mask & warp.alive();
  if (expected == 0 || (expected & ~warp.at_collective) != 0) return false;
  bool same_mask = true;
  for_each_lane(expected, [&](unsigned lane) { same_mask = same_mask && lanes[lane].request.mask == mask; });
  if (!same_mask) return false;
  check_same_collective(lanes, expected);
  exchange(lanes, expected, warp.alive());
  if (lanes[__builtin_ctz(expected)].request.kind == Collective::synchronise) {
    memory_checks().warp_barrier(lanes, expected);
  }
  return true;
}

void release(Launch& launch, Block& block, Thread* lanes, unsigned released) {
  const std::size_t ready = block.ready.size();
  for_each_lane(released, [&](unsigned lane) { launch.make_ready(lanes[lane]); });
  launch.shuffle_ready(block, ready);
}

}  // namespace

void complete_collectives(Launch& launch, Thread& thread) {
  Thread* lanes = first_lane(thread);
  const Warp& warp = thread.block->warp_of(thread);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((warp.at_collective >> lane & 1u) == 0) continue;
    const unsigned mask = lanes[lane].request.mask;
    if (complete(lanes, warp, mask)) release(launch, *thread.block, lanes, mask & warp.alive());
  }
}

std::uint64_t warp_collective(Collective kind, unsigned mask, std::uint64_t value, int argument, int width,
                              Location at) {
  Launch& launch = *current_launch();
  Thread& thread = *current_thread();
  Warp& warp = thread.block->warp_of(thread);
  if ((mask & ~warp.existing) != 0) {
    const int size = __builtin_popcount(warp.existing);
    report("mask names absent lanes",
           "the mask names lanes that the warp of " + std::to_string(size) + " threads does not have", {at});
    mask &= warp.existing;
  }
  if ((mask & thread.bit()) == 0) {
    report("mask omits the caller", "the mask does not name the calling lane", {at});
    launch.abandon(cudaErrorLaunchFailure);
  }
  thread.request = {kind, mask, value, argument, width};
  thread.state = State::at_collective;
  thread.waits_at = at;
  warp.at_collective |= thread.bit();

  Thread* lanes = first_lane(thread);
  if (complete(lanes, warp, mask)) {
    // In natural order the last lane to arrive goes on at once, which saves a switch; the others follow in the queue.
    const bool natural = settings().seed == 0;
    release(launch, *thread.block, lanes, mask & warp.alive() & ~(natural ? thread.bit() : 0));
    if (natural) {
      launch.leave_collective(thread);
      return thread.result;
    }
  }
  launch.suspend(thread);
  return thread.result;
}

}  // namespace emulator
