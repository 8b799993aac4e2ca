// Evaluates pending gates of spatial weighting in a block: factors = sigmoid(W2 relu(W1 mean + b1) + b2) of one image.
//
// Channels of all gates of a step are numbered together, and so are hidden values: channel k of gate g has the number
// first_channel[g] + k. All gates go through each of three phases side by side, with a barrier after each: means from
// sums; hidden values, 8 lanes an output; factors, 4 lanes an output, of those channels only that a list names. Weights
// of the first outputs can be requested long before (`GateWeights`), and travel while the block does something else;
// after that, an output's weights are requested while those before it are used. That is kAhead, for launches of few
// blocks; without it, which saves registers, weights are requested when they are needed.
// Sums in a fixed order: every block gets the same factors bit by bit.
#pragma once

#include "core/planes.cuh"
#include "core/reduce.cuh"
#include "core/sigmoid.cuh"
#include "core/tile_loop.cuh"

namespace litehrnet {

struct PendingGates {
  PendingGate gate[kMaxBranches];
  int first_channel[kMaxBranches], first_hidden[kMaxBranches];  // multiples of kVectorPad
  int wide1[kMaxBranches], wide2[kMaxBranches];                 // rows of W1, W2 may be read in vectors
  int count;
  int channels, hidden;  // numbers in use, those of padding included; they are the sizes of arrays in shared memory
};

constexpr int kGateLanes1 = 8, kGateLanes2 = 4;  // of an output of either matrix
constexpr int kGateSumFlight = 8;                // sums that a thread requests before it waits
static_assert(kWarpSize % kGateLanes1 == 0 && kWarpSize % kGateLanes2 == 0, "an output's lanes are in one warp");

// For kernels' parameters. A count of zero is allowed.
inline PendingGates make_pending_gates(const PendingGate* gates, int count, DType dtype) {
  const int size = static_cast<int>(element_size(dtype)), elems = size == 8 ? 2 : 4;
  PendingGates result{};
  result.count = count;
  for (int g = 0; g < count; ++g) {
    result.gate[g] = gates[g];
    result.first_channel[g] = result.channels;
    result.first_hidden[g] = result.hidden;
    result.channels += round_up(gates[g].channels, kVectorPad);
    result.hidden += round_up(gates[g].hidden, kVectorPad);
    result.wide1[g] = gates[g].channels % elems == 0 && is_aligned(gates[g].w1, size, 0, 0, elems * size);
    result.wide2[g] = gates[g].hidden % elems == 0 && is_aligned(gates[g].w2, size, 0, 0, elems * size);
  }
  return result;
}

// False where an argument is missing or a size is impossible.
inline bool are_valid(const PendingGate* gates, int count) {
  if (count < 0 || count > kMaxBranches) return false;
  for (int g = 0; g < count; ++g) {
    if (gates[g].sums == nullptr || gates[g].channels < 1 || gates[g].hidden < 1 || gates[g].tiles < 1 ||
        gates[g].pixels < 1 || static_cast<std::int64_t>(gates[g].channels) * gates[g].tiles > kMaxGrid)
      return false;
  }
  return true;
}

// Values of the accumulation type that evaluate_gates() needs in shared memory.
__host__ __device__ inline int gate_scratch(const PendingGates& gates) { return gates.channels + gates.hidden; }

// Weights in flight: of one output of either matrix. With kAhead 160 and 48 columns, the published networks have at
// most 160 and 40.
template <class scalar_t, bool kAhead = true>
struct GateWeights {
  MatrixRow<scalar_t, kGateLanes1, kAhead ? 5 : 3> row1;
  MatrixRow<scalar_t, kGateLanes2, kAhead ? 3 : 2> row2;
};

namespace pending_gate {

__device__ __forceinline__ int gate_of_channel(const PendingGates& gates, int number) {
  int gate = 0;
#pragma unroll
  for (int g = 1; g < kMaxBranches; ++g) gate += g < gates.count && number >= gates.first_channel[g];
  return gate;
}

__device__ __forceinline__ int gate_of_hidden(const PendingGates& gates, int number) {
  int gate = 0;
#pragma unroll
  for (int g = 1; g < kMaxBranches; ++g) gate += g < gates.count && number >= gates.first_hidden[g];
  return gate;
}

template <class Row, class scalar_t>
__device__ __forceinline__ void request_row1(const PendingGates& gates, int number, int first, Row& row,
                                             const scalar_t*) {
  if (number >= gates.hidden) return;
  const int g = gate_of_hidden(gates, number), output = number - gates.first_hidden[g];
  const PendingGate& gate = gates.gate[g];
  if (output >= gate.hidden) return;
  row.load(static_cast<const scalar_t*>(gate.w1) + output * gate.channels, first, gate.channels, gates.wide1[g],
           thread_index() % kGateLanes1);
}

// `number` of a channel, or anything negative.
template <class Row, class scalar_t>
__device__ __forceinline__ void request_row2(const PendingGates& gates, int number, int first, Row& row,
                                             const scalar_t*) {
  if (number < 0) return;
  const int g = gate_of_channel(gates, number), output = number - gates.first_channel[g];
  const PendingGate& gate = gates.gate[g];
  if (output >= gate.channels) return;
  row.load(static_cast<const scalar_t*>(gate.w2) + output * gate.hidden, first, gate.hidden, gates.wide2[g],
           thread_index() % kGateLanes2);
}

}  // namespace pending_gate

// Requests this thread's first weights of both matrices, for kAhead. `number_of(u)`: see compute_gate_factors().
template <class scalar_t, class NumberOf>
__device__ __forceinline__ void request_gate_weights(const PendingGates& gates, int count, NumberOf number_of,
                                                     GateWeights<scalar_t>& weights) {
  const int thread = thread_index(), slot = thread / kGateLanes2;
  pending_gate::request_row1(gates, thread / kGateLanes1, 0, weights.row1, static_cast<const scalar_t*>(nullptr));
  pending_gate::request_row2(gates, slot < count ? number_of(slot) : -1, 0, weights.row2,
                             static_cast<const scalar_t*>(nullptr));
}

// mean[gates.channels] of `image`; padding is zero. The caller has the barrier after it.
template <class scalar_t, int kThreads>
__device__ __forceinline__ void compute_gate_means(const PendingGates& gates, int image, acc_t<scalar_t>* mean) {
  using acc = acc_t<scalar_t>;
#pragma unroll 1
  for (int number = thread_index(); number < gates.channels; number += kThreads) {
    const int g = pending_gate::gate_of_channel(gates, number), channel = number - gates.first_channel[g];
    const PendingGate& gate = gates.gate[g];
    acc sum = 0;
    if (channel < gate.channels) {
      const std::int64_t plane = static_cast<std::int64_t>(image) * gate.channels + channel;
      const acc* sums = static_cast<const acc*>(gate.sums) + plane * gate.tiles;
#pragma unroll 1
      for (int first = 0; first < gate.tiles; first += kGateSumFlight) {
        acc part[kGateSumFlight];
#pragma unroll
        for (int u = 0; u < kGateSumFlight; ++u) part[u] = first + u < gate.tiles ? sums[first + u] : 0;
#pragma unroll
        for (int u = 0; u < kGateSumFlight; ++u) sum += part[u];
      }
    }
    mean[number] = sum / static_cast<acc>(gate.pixels);
  }
}

// hidden[gates.hidden]; padding is zero. With kAhead, `weights` hold the first row of W1. Barriers: the caller's.
template <class scalar_t, int kThreads, bool kAhead>
__device__ __forceinline__ void compute_gate_hidden(const PendingGates& gates, const acc_t<scalar_t>* mean,
                                                    GateWeights<scalar_t, kAhead>& weights, acc_t<scalar_t>* hidden) {
  using acc = acc_t<scalar_t>;
  using Row = decltype(weights.row1);
  constexpr int kOutputs = kThreads / kGateLanes1;
  const auto* type = static_cast<const scalar_t*>(nullptr);
  const int lane = thread_index() % kGateLanes1, slot = thread_index() / kGateLanes1;
#pragma unroll 1
  for (int number0 = 0; number0 < gates.hidden; number0 += kOutputs) {
    const int number = number0 + slot, g = pending_gate::gate_of_hidden(gates, number);
    const PendingGate& gate = gates.gate[g];
    const int output = number - gates.first_hidden[g];
    const bool live = number < gates.hidden && output < gate.hidden;
    acc sum = 0, bias = 0;
    if (live) {
      bias = static_cast<const acc*>(gate.b1)[output];
#pragma unroll 1
      for (int first = 0; first < gate.channels; first += Row::kSpan) {
        if (!kAhead || first > 0) pending_gate::request_row1(gates, number, first, weights.row1, type);
        sum += weights.row1.dot(mean + gates.first_channel[g], first, gate.channels, lane);
      }
    }
    if constexpr (kAhead) pending_gate::request_row1(gates, number + kOutputs, 0, weights.row1, type);
    sum = lanes_sum<kGateLanes1>(sum) + bias;
    if (lane == 0 && number < gates.hidden) hidden[number] = live && !(sum < 0) ? sum : 0;
  }
}

// The factors of `count` channels, number_of(u) the number of the u-th. visit(u, number, factor, lane) is called in
// each of the kGateLanes2 lanes of an output; all of them know the factor. With `store`, factors go to the gates'
// tensors besides. With kAhead, `weights` hold the first row of W2.
template <class scalar_t, int kThreads, bool kAhead, class NumberOf, class Visit>
__device__ __forceinline__ void compute_gate_factors(const PendingGates& gates, int image, int count,
                                                     NumberOf number_of, const acc_t<scalar_t>* hidden,
                                                     GateWeights<scalar_t, kAhead>& weights, bool store, Visit visit) {
  using acc = acc_t<scalar_t>;
  using Row = decltype(weights.row2);
  constexpr int kOutputs = kThreads / kGateLanes2;
  const auto* type = static_cast<const scalar_t*>(nullptr);
  const int lane = thread_index() % kGateLanes2, slot = thread_index() / kGateLanes2;
  int next = slot < count ? number_of(slot) : -1;
#pragma unroll 1
  for (int u0 = 0; u0 < count; u0 += kOutputs) {
    const int u = u0 + slot, number = next, g = pending_gate::gate_of_channel(gates, number);
    const PendingGate& gate = gates.gate[g];
    const int output = number - gates.first_channel[g];
    const bool live = number >= 0 && output < gate.channels;
    acc sum = 0, bias = 0;
    if (live) {
      bias = static_cast<const acc*>(gate.b2)[output];
#pragma unroll 1
      for (int first = 0; first < gate.hidden; first += Row::kSpan) {
        if (!kAhead || first > 0) pending_gate::request_row2(gates, number, first, weights.row2, type);
        sum += weights.row2.dot(hidden + gates.first_hidden[g], first, gate.hidden, lane);
      }
    }
    next = u + kOutputs < count ? number_of(u + kOutputs) : -1;
    if constexpr (kAhead) pending_gate::request_row2(gates, next, 0, weights.row2, type);
    sum = lanes_sum<kGateLanes2>(sum);
    if (!live) continue;
    const acc factor = sigmoid(sum + bias);
    visit(u, number, factor, lane);
    if (store && lane == 0)
      static_cast<acc*>(gate.factors)[static_cast<std::int64_t>(image) * gate.channels + output] = factor;
  }
}

// All of it: factors[number] in shared memory for `count` channels, a barrier after them included. `numbers` [count]
// lists them; null: all, count = gates.channels. `scratch` holds gate_scratch(gates) values and is free afterwards.
template <class scalar_t, int kThreads>
__device__ __forceinline__ void evaluate_gates(const PendingGates& gates, int image, const int* numbers, int count,
                                               bool store, acc_t<scalar_t>* scratch, acc_t<scalar_t>* factors) {
  const auto number_of = [&](int u) { return numbers == nullptr ? u : numbers[u]; };
  acc_t<scalar_t>* hidden = scratch + gates.channels;
  GateWeights<scalar_t> weights;
  if constexpr (kTileLoop) weights = {};
  request_gate_weights(gates, count, number_of, weights);
  compute_gate_means<scalar_t, kThreads>(gates, image, scratch);
  __syncthreads();  // means are complete
  compute_gate_hidden<scalar_t, kThreads, true>(gates, scratch, weights, hidden);
  __syncthreads();  // hidden values are complete
  compute_gate_factors<scalar_t, kThreads, true>(gates, image, count, number_of, hidden, weights, store,
                                                 [&](int, int number, acc_t<scalar_t> factor, int lane) {
                                                   if (lane == 0) factors[number] = factor;
                                                 });
  __syncthreads();  // factors are complete
}

}  // namespace litehrnet
