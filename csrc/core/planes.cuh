// Planes of a plan's operands in kernels.
#pragma once

#include "core/elements.cuh"
#include "core/planes.h"

namespace litehrnet {

// A plane of an image in memory, with what is pending on it.
template <class scalar_t>
struct SourcePlane {
  const scalar_t* data;
  acc_t<scalar_t> factor;
  bool relu;

  __device__ __forceinline__ acc_t<scalar_t> apply(scalar_t pixel) const {
    const acc_t<scalar_t> value = to_acc(pixel);
    return (relu && value < 0 ? 0 : value) * factor;
  }
};

template <class scalar_t>
__device__ __forceinline__ SourcePlane<scalar_t> source_plane(const PlaneSources& sources, int number, int image) {
  const PlaneSource source = sources.planes[number];
  acc_t<scalar_t> factor = 1;
  if (source.has_factor != 0) factor = *source.factor.in<const acc_t<scalar_t>>(sources.memory, sources.batch, image);
  return {source.data.in<const scalar_t>(sources.memory, sources.batch, image), factor, source.relu != 0};
}

}  // namespace litehrnet
