// What a step of a plan becomes before it runs, either in a launch of its own or as a phase of one launch for all.
//
// Every step has a header cuda/plan_<step>.cuh with the namespace plan_<step>, in which are
// - Phase: all that device code reads: the parameters, and what follows from them and from the threads of a block;
// - make_phase(params, dtype, threads, phase, shape): fills in both, on the host. `threads` is a power of two from 64
//   to 512. Returns cudaErrorInvalidValue for what is outside of the limits that the header names;
// - run_tile<scalar_t, kThreads>(phase, block, shared): the work of one block, done by as many threads as the phase was
//   made for. All of them call it; `shared` is 16-byte aligned. A loop over blocks needs a barrier between two calls.
#pragma once

#include "core/common.h"

namespace litehrnet {

struct LaunchShape {
  unsigned blocks;           // 0: there is nothing to do
  std::size_t shared_bytes;  // dynamic shared memory of a block
};

}  // namespace litehrnet
