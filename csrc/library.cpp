// All schemas of the dispatcher namespace `litehrnet_cuda`. Python finds them as torch.ops.litehrnet_cuda.<op> once
// litehrnet_cuda/_extension.py has loaded this library.
#include "core/build_info.h"
#include "ops/torch_compat.h"

STABLE_TORCH_LIBRARY(litehrnet_cuda, library) {
  library.def("build_info() -> str");
  // Branches are ordered from high to low resolution; batch norms are folded into weights and biases.
  library.def(
      "cross_resolution_weighting(Tensor[] x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2) -> Tensor[]");
  library.def("depthwise_conv(Tensor[] x, Tensor[] weight, Tensor[] bias) -> Tensor[]");
  library.def(
      "spatial_weighting(Tensor[] x, Tensor[] kept, Tensor[] weight1, Tensor[] bias1, Tensor[] weight2, "
      "Tensor[] bias2) -> Tensor[]");
  library.def(
      "conditional_channel_weighting(Tensor[] x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, "
      "Tensor[] depthwise_weight, Tensor[] depthwise_bias, Tensor[] gate_weight1, Tensor[] gate_bias1, "
      "Tensor[] gate_weight2, Tensor[] gate_bias2) -> Tensor[]");
}

// No tensor argument says which device it is for, so one implementation serves them all.
STABLE_TORCH_LIBRARY_IMPL(litehrnet_cuda, CompositeExplicitAutograd, library) {
  library.impl("build_info", TORCH_BOX(&litehrnet::build_info));
}
