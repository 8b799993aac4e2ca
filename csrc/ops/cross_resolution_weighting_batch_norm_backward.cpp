// Adapter of _cross_resolution_weighting_batch_norm_backward: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/batch_norms.h"
#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "_cross_resolution_weighting_batch_norm_backward";

// Returns the gradients of x, weight1, weight2, norm_weight and norm_bias.
Tensors cross_resolution_weighting_batch_norm_backward(Tensors grad_y, Tensors x, Tensor weight1, Tensor weight2,
                                                       Tensors norm_weight, Tensors norm_bias, Tensors running_mean,
                                                       Tensors running_var, Tensor statistics, Tensors saved,
                                                       bool training, double eps) {
  check_branches(kOp, x);
  check_count(kOp, "grad_y", grad_y.size(), x.size());
  STD_TORCH_CHECK(saved.size() == 2, kOp, ": saved: expected 2 tensors, hidden and logits, got ", saved.size());
  int64_t channels = 0;
  for (const Tensor& branch : x) channels += branch.size(1);
  STD_TORCH_CHECK(weight1.dim() == 2 && weight1.size(0) > 0, kOp, ": weight1: expected shape [R, ", channels, "], got ",
                  shape_text(weight1.sizes()));
  const int64_t hidden = weight1.size(0), batch = x[0].size(0), height = x.back().size(2), width = x.back().size(3);
  check_enough_values(kOp, x.back(), training);

  const DeviceScope device(x[0]);
  BatchNorms norms(kOp, {hidden, channels}, norm_weight, norm_bias, running_mean, running_var, training, x[0]);
  norms.set_statistics(kOp, statistics, x[0]);
  CrossResolutionWeightingBatchNormBackwardParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(batch);
  params.hidden_channels = static_cast<int>(hidden);
  params.eps = eps;
  params.batch_statistics = training;
  params.norm1 = norms.at(0);
  params.norm2 = norms.at(1);
  Tensors held, grads;  // held: copies that the kernels read
  const auto pointer = [&](Tensor tensor) {
    held.push_back(std::move(tensor));
    return held.back().const_data_ptr();
  };
  params.w1 = pointer(checked_accumulate_parameter(kOp, "weight1", weight1, {hidden, channels}, x[0]));
  params.w2 = pointer(checked_accumulate_parameter(kOp, "weight2", weight2, {channels, hidden}, x[0]));
  params.hidden =
      pointer(checked_accumulate_parameter(kOp, "saved[0]", saved[0], {batch, hidden, height, width}, x[0]));
  params.logits = pointer(checked_parameter(kOp, "saved[1]", saved[1], {batch, channels, height, width}, x[0]));
  for (size_t i = 0; i < x.size(); ++i) {
    check_like(kOp, indexed("grad_y", i), grad_y[i], x[0]);
    check_shape(kOp, indexed("grad_y", i), grad_y[i], {batch, x[i].size(1), x[i].size(2), x[i].size(3)});
    CrossResolutionWeightingBatchNormBackwardBranch& branch = params.branch[i];
    set_sizes(branch, x[i], x[i].size(1));
    const Tensor input = with_contiguous_planes(x[i]), grad = with_contiguous_planes(grad_y[i]);
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    branch.x = pointer(input);
    branch.grad_y_image_stride = grad.stride(0);
    branch.grad_y_plane_stride = grad.stride(1);
    branch.grad_y = pointer(grad);
    grads.push_back(new_map(x[i], x[i].size(1)));
    branch.grad_x = grads[i].mutable_data_ptr();
    branch.grad_x_image_stride = grads[i].stride(0);
    branch.grad_x_plane_stride = grads[i].stride(1);
  }
  const auto gradient = [&](const Shape& shape) {
    Tensor tensor = new_accumulate(x[0], shape);
    if (batch == 0) torch::stable::zero_(tensor);
    grads.push_back(tensor);
    return tensor.mutable_data_ptr();
  };
  params.grad_w1 = gradient({hidden, channels});
  params.grad_w2 = gradient({channels, hidden});
  params.grad_norm1_weight = gradient({hidden});
  params.grad_norm2_weight = gradient({channels});
  params.grad_norm1_bias = gradient({hidden});
  params.grad_norm2_bias = gradient({channels});
  if (batch > 0) {
    const DType dtype = dtype_of(kOp, x[0]);
    const auto bytes = cross_resolution_weighting_batch_norm_backward_workspace_bytes(params, dtype);
    const Tensor workspace = new_tensor(x[0], {static_cast<int64_t>(bytes)}, ScalarType::Byte);
    params.workspace = workspace.mutable_data_ptr();
    check_launch(kOp, launch_cross_resolution_weighting_batch_norm_backward(params, dtype, device.stream()));
  }
  for (size_t i = 0; i < x.size(); ++i) grads[i] = in_format_of(grads[i], x[i]);
  return grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("_cross_resolution_weighting_batch_norm_backward",
               TORCH_BOX(&cross_resolution_weighting_batch_norm_backward));
}

}  // namespace litehrnet
