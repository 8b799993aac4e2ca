// Adapter of depthwise_conv: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "depthwise_conv";

Tensors depthwise_conv(Tensors x, Tensors weight, Tensors bias) {
  check_branches(kOp, x);
  check_count(kOp, "weight", weight.size(), x.size());
  check_count(kOp, "bias", bias.size(), x.size());

  const DeviceScope device(x[0]);
  DepthwiseConvParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  Tensors held, outputs;  // held: copies that the kernel reads
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t channels = x[i].size(1);
    const Tensor input = with_contiguous_planes(x[i]);
    const Tensor w = checked_parameter(kOp, indexed("weight", i), weight[i], {channels, 3, 3}, x[0]);
    const Tensor b = checked_parameter(kOp, indexed("bias", i), bias[i], {channels}, x[0]);
    held.insert(held.end(), {input, w, b});
    outputs.push_back(new_map(x[i], channels));
    DepthwiseConvBranch& branch = params.branch[i];
    set_sizes(branch, x[i], channels);
    branch.x = input.const_data_ptr();
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    branch.weight = w.const_data_ptr();
    branch.bias = b.const_data_ptr();
    branch.y = outputs[i].mutable_data_ptr();
  }
  check_launch(kOp, launch_depthwise_conv_forward(params, dtype_of(kOp, x[0]), device.stream()));
  for (size_t i = 0; i < x.size(); ++i) outputs[i] = in_format_of(outputs[i], x[i]);
  return outputs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("depthwise_conv", TORCH_BOX(&depthwise_conv));
}

}  // namespace litehrnet
