// What differs between nvcc and the emulator, but for grid.cuh, and the one way in which kernels are launched.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef LITEHRNET_EMULATED
#include "emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

namespace litehrnet {

// The number of kernels that the functions below have started without an error since the program began.
inline std::atomic<std::uint64_t> launch_count{0};

namespace platform {

inline cudaError_t counted(cudaError_t error) {
  if (error == cudaSuccess) launch_count.fetch_add(1, std::memory_order_relaxed);
  return error;
}

// Keeps an argument from taking part in deduction, so that it converts to the kernel's parameter as in a plain call.
template <class T>
struct Identity {
  using type = T;
};

}  // namespace platform

#ifdef LITEHRNET_EMULATED

// The block's dynamic shared memory, 16-byte aligned.
template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulator::dynamic_shared_memory());
}

template <class... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t,
                   typename platform::Identity<Parameters>::type... arguments) {
  return platform::counted(emulator::launch(kernel, grid, block, shared_bytes, false, arguments...));
}

// A copy that is queued on the stream, from memory that the caller may let go of at once. Not for recorded streams.
inline cudaError_t copy_to_device(void* to, const void* from, std::size_t bytes, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

// The emulator runs one launch after the other.
inline void wait_for_launches_before() {}

template <class... Parameters>
cudaError_t launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
                             cudaStream_t, typename platform::Identity<Parameters>::type... arguments) {
  return platform::counted(emulator::launch(kernel, grid, block, shared_bytes, false, arguments...));
}

template <class... Parameters>
cudaError_t launch_cooperative(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
                               cudaStream_t, typename platform::Identity<Parameters>::type... arguments) {
  return platform::counted(emulator::launch(kernel, grid, block, shared_bytes, true, arguments...));
}

#else

#ifdef __CUDACC__
// What launch_dependent() wants of a kernel: lets the next launch start as soon as multiprocessors have room, and waits
// for the ends of those before. Each waits for the one before it, so all that came earlier has ended, too.
__device__ __forceinline__ void wait_for_launches_before() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
#endif
}

// The block's dynamic shared memory, 16-byte aligned.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<T*>(dynamic_shared_bytes);
}
#endif

// A copy that is queued on the stream, from memory that the caller may let go of at once: CUDA stages pageable memory
// before it returns, and may wait for the stream to do so. A recorded stream would read that memory later, and is
// refused.
inline cudaError_t copy_to_device(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaError_t error = cudaStreamIsCapturing(stream, &status);
  if (error != cudaSuccess) return error;
  if (status != cudaStreamCaptureStatusNone) return cudaErrorStreamCaptureUnsupported;
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream);
}

// Starts the kernel on the stream and returns the launch's error.
template <class... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   typename platform::Identity<Parameters>::type... arguments) {
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
  const auto* function = reinterpret_cast<const void*>(kernel);
  return platform::counted(cudaLaunchKernel(function, grid, block, pointers, shared_bytes, stream));
}

// The same for a kernel that may start before those before it in the stream have ended, where the architecture can do
// that (programmatic dependent launch, 9.0 and up). It calls wait_for_launches_before() before anything else.
template <class... Parameters>
cudaError_t launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
                             cudaStream_t stream, typename platform::Identity<Parameters>::type... arguments) {
  // The code that runs has to be able to wait, too: an older architecture's, compiled just in time, is not. Kernels
  // with the same parameters are compiled for the same architectures.
  static const int compiled_for = [&] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess ? attributes.ptxVersion : 0;
  }();
  int device = 0, major = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = major >= 9 && compiled_for >= 90 ? 1 : 0;
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
  return platform::counted(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), pointers));
}

// The same for a kernel that synchronises the whole grid: all its blocks must fit on the device at once.
template <class... Parameters>
cudaError_t launch_cooperative(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
                               cudaStream_t stream, typename platform::Identity<Parameters>::type... arguments) {
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
  const auto* function = reinterpret_cast<const void*>(kernel);
  return platform::counted(cudaLaunchCooperativeKernel(function, grid, block, pointers, shared_bytes, stream));
}

#endif

}  // namespace litehrnet
