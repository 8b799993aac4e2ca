// Adapter of depthwise_conv_batch_norm: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include <tuple>

#include "ops/batch_norms.h"
#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "depthwise_conv_batch_norm";

// Saved are the filtered maps.
std::tuple<Tensors, Tensor, Tensors> depthwise_conv_batch_norm(Tensors x, Tensors weight, Tensors norm_weight,
                                                               Tensors norm_bias, Tensors running_mean,
                                                               Tensors running_var, bool training, double eps) {
  check_branches(kOp, x);
  check_count(kOp, "weight", weight.size(), x.size());
  Shape channels;
  for (const Tensor& s : x) channels.push_back(s.size(1));
  for (size_t i = 0; i < x.size(); ++i)
    STD_TORCH_CHECK(!training || x[i].size(0) * x[i].size(2) * x[i].size(3) > 1, kOp,
                    ": expected more than 1 value per channel when training, got ", indexed("x", i), " of shape ",
                    shape_text(x[i].sizes()));
  BatchNorms norms(kOp, channels, norm_weight, norm_bias, running_mean, running_var, training, x[0]);

  const DeviceScope device(x[0]);
  DepthwiseConvBatchNormParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  params.eps = eps;
  params.batch_statistics = training;
  Tensors held, outputs, saved;  // held: copies that the kernel reads
  Tensor statistics = norms.new_statistics(x[0]);
  for (size_t i = 0; i < x.size(); ++i) {
    const Tensor input = with_contiguous_planes(x[i]);
    const Tensor w = checked_accumulate_parameter(kOp, indexed("weight", i), weight[i], {channels[i], 3, 3}, x[0]);
    held.insert(held.end(), {input, w});
    outputs.push_back(new_map(x[i], channels[i]));
    saved.push_back(new_map(x[i], channels[i]));
    DepthwiseConvBatchNormBranch& branch = params.branch[i];
    set_sizes(branch, x[i], channels[i]);
    branch.x = input.const_data_ptr();
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    branch.weight = w.const_data_ptr();
    branch.norm = norms.at(i);
    branch.filtered = saved[i].mutable_data_ptr();
    branch.y = outputs[i].mutable_data_ptr();
  }
  const DType dtype = dtype_of(kOp, x[0]);
  const Tensor workspace = new_workspace(x[0], depthwise_conv_batch_norm_workspace_bytes(params, dtype));
  params.workspace = workspace.mutable_data_ptr();
  check_launch(kOp, launch_depthwise_conv_batch_norm_forward(params, dtype, device.stream()));
  for (size_t i = 0; i < x.size(); ++i) outputs[i] = in_format_of(outputs[i], x[i]);
  return {outputs, statistics, saved};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("depthwise_conv_batch_norm", TORCH_BOX(&depthwise_conv_batch_norm));
}

}  // namespace litehrnet
