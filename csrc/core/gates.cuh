// How the gates of cross-resolution weighting are read: sigmoid(norm(logits[n, c, position])).
#pragma once

#include "core/batch_norm.cuh"
#include "core/sigmoid.cuh"

namespace litehrnet {

// The norm of one channel of the gates, by a whole warp and in every lane of it: from parts, where there are some, else
// from mean and variance. With parts, exactly one of all warps of a launch that ask for a channel is to store its
// statistics.
template <class acc>
__device__ __forceinline__ NormalisedChannel<acc> gate_norm(const PositionGates& gates, int channel, bool store,
                                                            int lanes = kWarpSize) {
  const auto eps = static_cast<acc>(gates.eps);
  if (gates.parts == nullptr) return normalised_channel(gates.norm, channel, eps);
  const auto* parts = static_cast<const Moments<acc>*>(gates.parts) + channel * gates.part_count;
  const Moments<acc> moments = merge_parts(parts, gates.part_count, lanes);
  if (store && (threadIdx.x & (lanes - 1)) == 0) store_statistics(gates.norm, channel, moments);
  return normalised_channel(gates.norm, channel, moments.mean, moments.squares / moments.count, eps);
}

// The logits of one channel in one image, [h, w].
template <class scalar_t>
__device__ __forceinline__ const scalar_t* gate_logits(const PositionGates& gates, int image, int channel) {
  const std::int64_t plane = static_cast<std::int64_t>(image) * gates.channels + channel;
  return static_cast<const scalar_t*>(gates.logits) + plane * gates.height * gates.width;
}

// The gate of one position.
template <class scalar_t>
__device__ __forceinline__ acc_t<scalar_t> gate_at(const NormalisedChannel<acc_t<scalar_t>>& norm, scalar_t logit) {
  return sigmoid(norm.apply(to_acc(logit)));
}

}  // namespace litehrnet
