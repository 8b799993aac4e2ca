// Adapter of _depthwise_conv_batch_norm_backward: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "core/workspace.h"
#include "ops/batch_norms.h"
#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "_depthwise_conv_batch_norm_backward";

struct Launches {
  SpatialWeightingBackwardParams norm{};
  DepthwiseConvBatchNormBackwardParams filter{};
};

// Gives the launches their workspaces, and returns what they take in all; `base` is null while only that is asked for.
size_t divide_workspace(Launches& l, DType dtype, void* base) {
  Workspace workspace(base);
  for (int b = 0; b < l.filter.branches; ++b) {
    const size_t planes = static_cast<size_t>(l.filter.batch) * l.filter.branch[b].channels;
    l.norm.branch[b].coefficients = workspace.reserve(planes * kCoefficients * accumulate_size(dtype));
    l.filter.branch[b].coefficients = l.norm.branch[b].coefficients;
  }
  l.norm.workspace = workspace.reserve(spatial_weighting_backward_workspace_bytes(l.norm, dtype));
  l.filter.workspace = workspace.reserve(depthwise_conv_batch_norm_backward_workspace_bytes(l.filter, dtype));
  return workspace.bytes();
}

// Gradients of x, weight, norm_weight and norm_bias.
Tensors depthwise_conv_batch_norm_backward(Tensors grad_y, Tensors x, Tensors weight, Tensors norm_weight,
                                           Tensors norm_bias, Tensors running_mean, Tensors running_var,
                                           Tensor statistics, Tensors saved, bool training, double eps) {
  check_branches(kOp, x);
  check_count(kOp, "grad_y", grad_y.size(), x.size());
  check_count(kOp, "weight", weight.size(), x.size());
  check_count(kOp, "saved", saved.size(), x.size());
  Shape channels;
  for (const Tensor& s : x) channels.push_back(s.size(1));
  BatchNorms norms(kOp, channels, norm_weight, norm_bias, running_mean, running_var, training, x[0]);
  norms.set_statistics(kOp, statistics, x[0]);

  const DeviceScope device(x[0]);
  Launches l;
  l.norm.branches = l.filter.branches = static_cast<int>(x.size());
  l.norm.batch = l.filter.batch = static_cast<int>(x[0].size(0));
  l.norm.eps = eps;
  l.norm.batch_statistics = training;
  Tensors held, grad_x, grad_weight, grad_norm_weight, grad_norm_bias;  // held: copies that the kernels read
  for (size_t i = 0; i < x.size(); ++i) {
    const Shape shape = {x[i].size(0), channels[i], x[i].size(2), x[i].size(3)};
    check_like(kOp, indexed("grad_y", i), grad_y[i], x[0]);
    check_shape(kOp, indexed("grad_y", i), grad_y[i], shape);
    const Tensor grad = with_contiguous_planes(grad_y[i]), input = with_contiguous_planes(x[i]);
    const Tensor w = checked_accumulate_parameter(kOp, indexed("weight", i), weight[i], {channels[i], 3, 3}, x[0]);
    const Tensor filtered = checked_parameter(kOp, indexed("saved", i), saved[i], shape, x[0]);
    held.insert(held.end(), {grad, input, w, filtered});
    grad_x.push_back(new_map(x[i], channels[i]));
    grad_weight.push_back(new_accumulate(x[0], {channels[i], 3, 3}));
    grad_norm_weight.push_back(new_accumulate(x[0], {channels[i]}));
    grad_norm_bias.push_back(new_accumulate(x[0], {channels[i]}));

    SpatialWeightingBackwardBranch& norm = l.norm.branch[i];
    DepthwiseConvBatchNormBackwardBranch& filter = l.filter.branch[i];
    set_sizes(norm, x[i], channels[i]);
    set_sizes(filter, x[i], channels[i]);
    norm.grad_output = filter.grad_y = grad.const_data_ptr();
    norm.grad_output_image_stride = filter.grad_y_image_stride = grad.stride(0);
    norm.grad_output_plane_stride = filter.grad_y_plane_stride = grad.stride(1);
    norm.x = filter.filtered = filtered.const_data_ptr();
    norm.x_image_stride = filtered.stride(0);
    norm.x_plane_stride = filtered.stride(1);
    norm.norm = norms.at(i);
    norm.grad_norm_weight = grad_norm_weight[i].mutable_data_ptr();
    norm.grad_norm_bias = grad_norm_bias[i].mutable_data_ptr();
    filter.x = input.const_data_ptr();
    filter.x_image_stride = input.stride(0);
    filter.x_plane_stride = input.stride(1);
    filter.weight = w.const_data_ptr();
    filter.grad_x = grad_x[i].mutable_data_ptr();
    filter.grad_x_image_stride = grad_x[i].stride(0);
    filter.grad_x_plane_stride = grad_x[i].stride(1);
    filter.grad_weight = grad_weight[i].mutable_data_ptr();
  }
  const DType dtype = dtype_of(kOp, x[0]);
  const Tensor workspace = new_workspace(x[0], divide_workspace(l, dtype, nullptr));
  divide_workspace(l, dtype, workspace.mutable_data_ptr());
  check_launch(kOp, launch_spatial_weighting_backward(l.norm, dtype, device.stream()));
  check_launch(kOp, launch_depthwise_conv_batch_norm_backward(l.filter, dtype, device.stream()));
  const Reductions reductions = depthwise_conv_batch_norm_backward_reductions(l.filter, dtype);
  check_launch(kOp, launch_reductions(reductions, dtype, device.stream()));
  for (size_t i = 0; i < x.size(); ++i) grad_x[i] = in_format_of(grad_x[i], x[i]);
  Tensors results = grad_x;
  for (const Tensors* list : {&grad_weight, &grad_norm_weight, &grad_norm_bias})
    results.insert(results.end(), list->begin(), list->end());
  return results;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("_depthwise_conv_batch_norm_backward", TORCH_BOX(&depthwise_conv_batch_norm_backward));
}

}  // namespace litehrnet
