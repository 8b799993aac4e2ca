// Batch statistics: how parts of them are taken, merged and applied, in a fixed order and without cancellation.
#pragma once

#include "core/batch_norm.h"
#include "core/reduce.cuh"

namespace litehrnet {

// Of a set of values: how many, their mean, and the sum of squared deviations from it.
template <class acc>
struct Moments {
  acc count, mean, squares;
};

// Of the union of two sets (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm", 1979).
template <class acc>
__device__ __forceinline__ Moments<acc> merge(const Moments<acc>& a, const Moments<acc>& b) {
  const acc count = a.count + b.count;
  if (count == 0) return a;
  const acc delta = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share};
}

// Over each aligned group of `lanes` lanes (a power of two, at most 32), in every lane of it; merge() is not symmetric
// in its roundings, so the lower lane's set always comes first and all lanes agree bit by bit.
template <class acc>
__device__ __forceinline__ Moments<acc> lanes_merge(Moments<acc> moments, int lanes) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int offset = 1; offset < lanes; offset <<= 1) {
    const Moments<acc> other = {__shfl_xor_sync(kFullWarp, moments.count, offset),
                                __shfl_xor_sync(kFullWarp, moments.mean, offset),
                                __shfl_xor_sync(kFullWarp, moments.squares, offset)};
    moments = lane & offset ? merge(other, moments) : merge(moments, other);
  }
  return moments;
}

// The union of parts in memory, by each aligned group of `lanes` lanes (a power of two, at most 32), in every lane of
// it. The whole warp takes part. First the mean, then the deviations from it, without a division a part.
template <class acc>
__device__ __forceinline__ Moments<acc> merge_parts(const Moments<acc>* parts, int part_count, int lanes) {
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  acc count = 0, sum = 0, squares = 0;
  for (int part = lane; part < part_count; part += lanes) {
    count += parts[part].count;
    sum += parts[part].count * parts[part].mean;
  }
  count = lanes_sum(count, lanes);
  const acc mean = lanes_sum(sum, lanes) / count;
  for (int part = lane; part < part_count; part += lanes) {
    const acc deviation = parts[part].mean - mean;
    squares += parts[part].squares + parts[part].count * deviation * deviation;
  }
  return {count, mean, lanes_sum(squares, lanes)};
}

// The moments of values that come one by one. Sums are taken about the first value: what cancels in sum(x^2) -
// sum(x)^2 / n is then of the size of the deviations, whatever the mean.
template <class acc>
struct MomentsAccumulator {
  acc pivot = 0, sum = 0, squares = 0;
  int count = 0;

  __device__ __forceinline__ void add(acc value) {
    if (count == 0) pivot = value;
    const acc deviation = value - pivot;
    sum += deviation;
    squares += deviation * deviation;
    ++count;
  }

  __device__ __forceinline__ Moments<acc> moments() const {
    if (count == 0) return {0, 0, 0};
    const acc n = static_cast<acc>(count), mean = sum / n, rest = squares - sum * mean;
    return {n, pivot + mean, rest < 0 ? 0 : rest};
  }
};

__device__ __forceinline__ float inverse_root(float value) { return 1.0f / sqrtf(value); }
__device__ __forceinline__ double inverse_root(double value) { return 1.0 / sqrt(value); }

// One channel of a batch norm: (x - mean) * scale + bias, and what its backward pass needs.
template <class acc>
struct NormalisedChannel {
  acc mean, inverse_deviation, scale, bias;  // scale = weight * inverse_deviation

  __device__ __forceinline__ acc apply(acc value) const { return (value - mean) * scale + bias; }
  __device__ __forceinline__ acc normalised(acc value) const { return (value - mean) * inverse_deviation; }
};

template <class acc>
__device__ __forceinline__ NormalisedChannel<acc> normalised_channel(const BatchNorm& norm, int channel, acc mean,
                                                                     acc variance, acc eps) {
  const acc inverse_deviation = inverse_root(variance + eps);
  return {mean, inverse_deviation, static_cast<const acc*>(norm.weight)[channel] * inverse_deviation,
          static_cast<const acc*>(norm.bias)[channel]};
}

// From the mean and variance in memory.
template <class acc>
__device__ __forceinline__ NormalisedChannel<acc> normalised_channel(const BatchNorm& norm, int channel, acc eps) {
  return normalised_channel(norm, channel, static_cast<const acc*>(norm.mean)[channel],
                            static_cast<const acc*>(norm.variance)[channel], eps);
}

// Writes a channel's batch statistics; of all that merge the same parts, one thread does.
template <class acc>
__device__ __forceinline__ void store_statistics(const BatchNorm& norm, int channel, const Moments<acc>& moments) {
  static_cast<acc*>(norm.mean)[channel] = moments.mean;
  static_cast<acc*>(norm.variance)[channel] = moments.squares / moments.count;
  if (norm.unbiased_variance != nullptr)
    static_cast<acc*>(norm.unbiased_variance)[channel] = moments.squares / (moments.count - 1);
}

}  // namespace litehrnet
