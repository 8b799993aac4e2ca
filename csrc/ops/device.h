// The device and the stream that an op runs on.
#pragma once

#include "ops/torch_compat.h"
#ifndef LITEHRNET_CPU
#include "core/platform.h"
#endif

// Adapters register for the device that the launchers they call were compiled for.
#if defined(LITEHRNET_CPU) || defined(LITEHRNET_EMULATED)
#define LITEHRNET_DISPATCH_KEY CPU
#else
#define LITEHRNET_DISPATCH_KEY CUDA
// Weak, because a torch without CUDA does not have it; there is no CUDA tensor to ask it for there.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                                  void** ret_stream);
#endif

#ifndef LITEHRNET_CPU
namespace litehrnet {

// Makes a tensor's device the current one, and restores the old one at the end; nothing on the CPU.
class DeviceScope {
 public:
#ifdef LITEHRNET_EMULATED
  explicit DeviceScope(const Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
#else
  explicit DeviceScope(const Tensor& tensor) : device_(tensor.get_device_index()), guard_(device_) {}
  // The stream that torch would use now, so that an op joins what surrounds it, CUDA graphs included.
  cudaStream_t stream() const {
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "litehrnet_cuda: this torch is built without CUDA");
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    return static_cast<cudaStream_t>(stream);
  }

 private:
  torch::stable::accelerator::DeviceIndex device_;
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

inline void check_launch(const char* op, cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, op, ": the kernel could not be started: ", cudaGetErrorString(error));
}

}  // namespace litehrnet
#endif
