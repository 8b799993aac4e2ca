// All schemas of the dispatcher namespace `litehrnet_cuda`. Python finds them as torch.ops.litehrnet_cuda.<op> once
// litehrnet_cuda/_extension.py has loaded this library.
#include "core/build_info.h"
#include "ops/torch_compat.h"

STABLE_TORCH_LIBRARY(litehrnet_cuda, library) {
  library.def("build_info() -> str");
}

// No tensor argument says which device it is for, so one implementation serves them all.
STABLE_TORCH_LIBRARY_IMPL(litehrnet_cuda, CompositeExplicitAutograd, library) {
  library.impl("build_info", TORCH_BOX(&litehrnet::build_info));
}
