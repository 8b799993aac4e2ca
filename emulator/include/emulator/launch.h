// Launching kernels, and the few functions of CUDA's runtime that launchers use. See control.h for what tests use.
#pragma once

#include <tuple>

#include "emulator/language.h"

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorMisalignedAddress = 716,
  cudaErrorLaunchFailure = 719,
  cudaErrorCooperativeLaunchTooLarge = 720,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrCooperativeLaunch = 95,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
typedef struct CUstream_st* cudaStream_t;

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t error);  // with the first report of the emulator, where there is one
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemsetAsync(void* address, int value, std::size_t bytes, cudaStream_t stream = nullptr);
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

namespace emulator {

struct Kernel {
  const void* function;
  void (*call)(const void* arguments);
  const void* arguments;
  std::size_t arguments_size;
};

cudaError_t execute(const Kernel& kernel, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative);
cudaError_t set_dynamic_shared_limit(const void* function, int bytes);
cudaError_t blocks_per_multiprocessor(int* blocks, const void* function, int threads, std::size_t shared_bytes);

template <class... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;

  EMULATOR_UNCHECKED static void run(const void* self) {
    const auto* call = static_cast<const Call*>(self);
    std::apply(call->kernel, call->arguments);
  }
};

// Returns when the grid has run: cudaSuccess, or what CUDA would say, or cudaErrorLaunchFailure where a check failed.
template <class... Parameters>
inline cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
                          bool cooperative, identity_t<Parameters>... arguments) {
  using ThisCall = Call<std::remove_cv_t<Parameters>...>;
  const ThisCall call{kernel, std::tuple<std::remove_cv_t<Parameters>...>(arguments...)};
  return execute({reinterpret_cast<const void*>(kernel), ThisCall::run, &call, sizeof(call)}, grid, block,
                 shared_bytes, cooperative);
}

}  // namespace emulator

template <class... Parameters>
inline cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
  return emulator::set_dynamic_shared_limit(reinterpret_cast<const void*>(kernel), value);
}
template <class... Parameters>
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(Parameters...),
                                                                 int threads, std::size_t shared_bytes) {
  return emulator::blocks_per_multiprocessor(blocks, reinterpret_cast<const void*>(kernel), threads, shared_bytes);
}
