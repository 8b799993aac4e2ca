// Planes of tables, of one image, and what is pending on them.
#pragma once

#include "core/planes.h"
#include "cpu/kernels/workplace.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {

template <class T>
LITEHRNET_INLINE T* at(const Place& place, const void* memory, int batch, int image) {
  auto* bytes = static_cast<unsigned char*>(const_cast<void*>(memory));
  const std::uint64_t elements = static_cast<std::uint64_t>(image) * place.image_stride + place.first;
  return reinterpret_cast<T*>(bytes + static_cast<std::uint64_t>(place.buffer) * batch * 256) + elements;
}

// One plane; its pixels are max(x, 0) if `relu`, times `factor`.
template <class T>
struct Pixels {
  const T* data;
  acc_t<T> factor;
  bool relu, pending;

  LITEHRNET_INLINE Vector<acc_t<T>> get(int pixel, int count) const { return apply(load(data + pixel, count)); }
  LITEHRNET_INLINE Vector<acc_t<T>> apply(Vector<acc_t<T>> v) const {
    if (relu) v = LITEHRNET_CPU_TARGET::relu(v);
    return v * broadcast(factor);
  }
};

template <class T>
LITEHRNET_INLINE Pixels<T> pixels_of(const PlaneSource& source, const void* memory, int batch, int image) {
  Pixels<T> result{at<const T>(source.data, memory, batch, image), 1, source.relu != 0, source.relu != 0};
  if (source.has_factor != 0) {
    result.factor = *at<const acc_t<T>>(source.factor, memory, batch, image);
    result.pending = true;
  }
  return result;
}

template <class T>
LITEHRNET_INLINE Pixels<T> pixels_of(const PlaneSources& sources, int number, int image) {
  return pixels_of<T>(sources.planes[number], sources.memory, sources.batch, image);
}

// The same where some factors are the step's own: `gated` says which of `factors`.
template <class T>
LITEHRNET_INLINE Pixels<T> pixels_of(const PlaneSources& sources, int number, int image, const int* gated,
                                     const acc_t<T>* factors) {
  Pixels<T> result = pixels_of<T>(sources, number, image);
  if (gated != nullptr && gated[number] >= 0) {
    result.factor = factors[gated[number]];
    result.pending = true;
  }
  return result;
}

template <class T>
LITEHRNET_INLINE T* written_plane(const PlaneSources& outputs, int number, int image) {
  return at<T>(outputs.planes[number].data, outputs.memory, outputs.batch, image);
}

template <class T>
LITEHRNET_INLINE T* written_plane(const PlaneTarget& output, int number, int image) {
  return static_cast<T*>(output.data) + image * output.image_stride +
         static_cast<std::int64_t>(number) * output.plane_stride;
}

// Runs run(T{}) for the element type that `dtype` names.
template <class Run>
auto visit_type(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::kFloat16: return run(Half{});
    case DType::kBFloat16: return run(BFloat16{});
    case DType::kFloat64: return run(double{});
    default: return run(float{});
  }
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
