// The gates of spatial weighting that a step evaluates: factors = sigmoid(W2 relu(W1 mean + b1) + b2).
//
// Factors are numbered through all gates, with each gate's first one at a multiple of kGatePad, as in
// core/pending_gate.cuh.
#pragma once

#include "cpu/kernels/source_planes.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

constexpr int kGatePad = 4;

LITEHRNET_INLINE int padded_channels(const PendingGate& gate) {
  return divide_up(gate.channels, kGatePad) * kGatePad;
}
LITEHRNET_INLINE int gate_factors(const PendingGate* gates, int count) {
  int result = 0;
  for (int g = 0; g < count; ++g) result += padded_channels(gates[g]);
  return result;
}
// Means and hidden values of one gate at a time.
LITEHRNET_INLINE int gate_scratch(const PendingGate* gates, int count) {
  int result = 0;
  for (int g = 0; g < count; ++g) result = most(result, padded_channels(gates[g]) + gates[g].hidden + 2 * 16);
  return result;
}

template <class T>
LITEHRNET_INLINE acc_t<T> dot_product(const T* a, const acc_t<T>* b, int count) {
  using A = acc_t<T>;
  constexpr int lanes = kLanes<A>;
  Vector<A> even = zero<A>(), odd = zero<A>();
  int i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    even = fma(load(a + i), load(b + i), even);
    odd = fma(load(a + i + lanes), load(b + i + lanes), odd);
  }
  if (i + lanes <= count) even = fma(load(a + i), load(b + i), even), i += lanes;
  if (i < count) odd = fma(load(a + i, count - i), load(b + i, count - i), odd);
  return sum_of_lanes(even + odd);
}

// Of one gate and image; stores the factors for later steps and at `factors`.
template <class T>
__attribute__((noinline)) void evaluate_gate(const PendingGate& gate, int image, acc_t<T>* scratch,
                                             acc_t<T>* factors) {
  using A = acc_t<T>;
  const int channels = gate.channels, hidden = gate.hidden, tiles = gate.tiles;
  A *means = scratch, *values = scratch + padded_channels(gate);
  const A* sums = static_cast<const A*>(gate.sums) + static_cast<std::int64_t>(image) * channels * tiles;
  const A pixels = static_cast<A>(gate.pixels);
  for (int c = 0; c < channels; ++c) {
    A sum = 0;
    for (int t = 0; t < tiles; ++t) sum += sums[c * tiles + t];
    means[c] = sum / pixels;
  }
  const T *w1 = static_cast<const T*>(gate.w1), *w2 = static_cast<const T*>(gate.w2);
  const A *b1 = static_cast<const A*>(gate.b1), *b2 = static_cast<const A*>(gate.b2);
  for (int h = 0; h < hidden; ++h) {
    const A value = b1[h] + dot_product(w1 + static_cast<std::int64_t>(h) * channels, means, channels);
    values[h] = value < 0 ? 0 : value;
  }
  for (int c = 0; c < channels; ++c)
    factors[c] = b2[c] + dot_product(w2 + static_cast<std::int64_t>(c) * hidden, values, hidden);
  A* stored = static_cast<A*>(gate.factors) + static_cast<std::int64_t>(image) * channels;
  for (int c = 0; c < channels; c += kLanes<A>) {
    const int count = least(kLanes<A>, channels - c);
    const Vector<A> factor = sigmoid(load(factors + c, count));
    store(factors + c, factor, count);
    store(stored + c, factor, count);
  }
}

// All gates, `factors` numbered through.
template <class T, class Place, class Scratch>
void evaluate_gates(Place& place, const PendingGate* gates, int count, int image, acc_t<T>* factors,
                    const Scratch& scratch) {
  place.for_each(count, [&](int g, const auto& own) {
    evaluate_gate<T>(gates[g], image, scratch(own), factors + gate_factors(gates, g));
  });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
