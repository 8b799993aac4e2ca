// The only file that includes torch's headers, and so the only one that knows which torch ABI we use: the libtorch
// stable ABI, as of the version in TORCH_TARGET_VERSION. With TORCH_STABLE_ONLY an include of anything unstable is a
// compile error here rather than an undefined symbol at the user's.
#pragma once

#if !defined(TORCH_TARGET_VERSION) || !defined(TORCH_STABLE_ONLY)
#error "build with -DTORCH_TARGET_VERSION=... and -DTORCH_STABLE_ONLY, as setup.py does"
#endif

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>

#include <vector>

// The dispatcher's. The emulator's operators lie beside the package's own in one process; tests define their schemas.
#ifdef LITEHRNET_EMULATED
#define LITEHRNET_NAMESPACE litehrnet_emulated
#else
#define LITEHRNET_NAMESPACE litehrnet_cuda
#endif

namespace litehrnet {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Tensors = std::vector<Tensor>;

// Classes with members of Tensor's type, which is hidden, have to be hidden too.
#define LITEHRNET_HIDDEN __attribute__((visibility("hidden")))

}  // namespace litehrnet
