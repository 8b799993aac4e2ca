// Feature maps as the steps of a plan see them: plane by plane, wherever those lie.
//
// Tables of planes are operands in device memory. They say where planes lie relative to a memory that is allocated for
// every run, and whatever the batch size: so they are made once for a plan, together with its weights.
#pragma once

#include "core/dtype.h"

namespace litehrnet {

// Where something lies in a memory that holds a batch: buffers begin at multiples of 256 bytes for each image of the
// batch, and hold their images one after the other.
struct Place {
  std::uint32_t buffer;        // where its buffer begins, in units of 256 bytes for each image of the batch
  std::uint32_t first;         // elements from there to the first one, in image 0
  std::uint32_t image_stride;  // elements from there to the same one in the next image

  template <class T>
  LITEHRNET_HOST_DEVICE T* in(const void* memory, int batch, int image) const {
    auto* bytes = static_cast<unsigned char*>(const_cast<void*>(memory));
    const std::uint64_t elements = static_cast<std::uint64_t>(image) * image_stride + first;
    return reinterpret_cast<T*>(bytes + static_cast<std::uint64_t>(buffer) * batch * 256) + elements;
  }
};

// One plane that a step reads, with what is pending on it: the reader takes max(x, 0) if `relu`, then x * factor.
struct alignas(16) PlaneSource {
  Place data;    // element type
  Place factor;  // float, double for fp64
  std::uint32_t relu, has_factor;
};
static_assert(sizeof(PlaneSource) == 32, "tables are written byte by byte");

// An operand that is read, or a scattered one that is written: `count` planes of height x width, rows contiguous.
struct PlaneSources {
  const PlaneSource* planes;  // [count], device memory; null: there is no such operand
  const void* memory;         // that the tables' places are in
  int batch, count, height, width;
};

// An operand that is written: planes that follow one another.
struct PlaneTarget {
  void* data;  // of image 0 and the first plane
  std::int64_t image_stride;
  int plane_stride, count, height, width;
};

// Spatial weighting's gate of one branch, to be evaluated by the step: factors = sigmoid(W2 relu(W1 mean + b1) + b2).
// A null `sums` says that nothing is pending. Sources of the step that it gates have no factors in their tables but
// "gated" tables beside them, see the steps.
struct PendingGate {
  const void* sums;  // [N, channels, tiles] float, double for fp64
  const void* w1;    // [hidden, channels], element type
  const void* b1;    // [hidden], float, double for fp64
  const void* w2;    // [channels, hidden], element type
  const void* b2;    // [channels]
  void* factors;     // [N, channels]: stored for later steps
  int channels, hidden, tiles, pixels;
};

}  // namespace litehrnet
