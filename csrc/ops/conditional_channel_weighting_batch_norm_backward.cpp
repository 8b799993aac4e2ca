// Adapter of _conditional_channel_weighting_batch_norm_backward: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/conditional_channel_weighting_batch_norm.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "_conditional_channel_weighting_batch_norm_backward";

// Gradients of x, of the weights in the order of the arguments, of norm_weight and of norm_bias.
Tensors conditional_channel_weighting_batch_norm_backward(
    Tensors grad_y, Tensors x, Tensor weight1, Tensor weight2, Tensors depthwise_weight, Tensors gate_weight1,
    Tensors gate_bias1, Tensors gate_weight2, Tensors gate_bias2, Tensors norm_weight, Tensors norm_bias,
    Tensors running_mean, Tensors running_var, Tensor statistics, Tensors saved, bool training, double eps) {
  const BlockArguments arguments = {weight1,      weight2,   depthwise_weight, gate_weight1, gate_bias1,
                                    gate_weight2, gate_bias2, norm_weight,     norm_bias,    running_mean,
                                    running_var,  training,  eps};
  const Shape channels = check_block(kOp, x, arguments);
  const size_t branches = x.size();
  check_count(kOp, "grad_y", grad_y.size(), branches);
  check_count(kOp, "saved", saved.size(), 2 + branches);
  BatchNorms norms(kOp, channels, norm_weight, norm_bias, running_mean, running_var, training, x[0]);
  norms.set_statistics(kOp, statistics, x[0]);

  const DeviceScope device(x[0]);
  ConditionalChannelWeightingBatchNormBackwardParams params{};
  Tensors held, results;
  set_block(kOp, params, x, arguments, channels, norms, held);
  const Tensor& last = x.back();
  held.push_back(checked_accumulate_parameter(kOp, "saved[0]", saved[0],
                                              {last.size(0), channels[0], last.size(2), last.size(3)}, x[0]));
  params.hidden = held.back().const_data_ptr();
  held.push_back(
      checked_parameter(kOp, "saved[1]", saved[1], {last.size(0), channels[1], last.size(2), last.size(3)}, x[0]));
  params.logits = held.back().const_data_ptr();

  const auto gradient = [&](const Tensor& parameter) {
    results.push_back(new_accumulate(parameter, {parameter.sizes().begin(), parameter.sizes().end()}));
    return results.back().mutable_data_ptr();
  };
  for (size_t i = 0; i < branches; ++i) {
    auto& branch = params.branch[i];
    check_like(kOp, indexed("grad_y", i), grad_y[i], x[0]);
    check_shape(kOp, indexed("grad_y", i), grad_y[i], {x[i].sizes().begin(), x[i].sizes().end()});
    const Tensor grad = with_contiguous_planes(grad_y[i]);
    held.push_back(grad);
    branch.grad_out = grad.const_data_ptr();
    branch.grad_out_image_stride = grad.stride(0);
    branch.grad_out_plane_stride = grad.stride(1);
    held.push_back(checked_parameter(kOp, indexed("saved", 2 + i), saved[2 + i],
                                     {x[i].size(0), channels[2 + i], x[i].size(2), x[i].size(3)}, x[0]));
    branch.filtered = held.back().const_data_ptr();
    results.push_back(new_map(x[i], x[i].size(1)));
    branch.grad_x = results.back().mutable_data_ptr();
  }
  params.grad_w1 = gradient(weight1);
  params.grad_w2 = gradient(weight2);
  for (size_t i = 0; i < branches; ++i) params.branch[i].grad_depthwise_weight = gradient(depthwise_weight[i]);
  for (size_t i = 0; i < branches; ++i) params.branch[i].grad_gate_w1 = gradient(gate_weight1[i]);
  for (size_t i = 0; i < branches; ++i) params.branch[i].grad_gate_b1 = gradient(gate_bias1[i]);
  for (size_t i = 0; i < branches; ++i) params.branch[i].grad_gate_w2 = gradient(gate_weight2[i]);
  for (size_t i = 0; i < branches; ++i) params.branch[i].grad_gate_b2 = gradient(gate_bias2[i]);
  params.grad_norm1_weight = gradient(norm_weight[0]);
  params.grad_norm2_weight = gradient(norm_weight[1]);
  for (size_t i = 0; i < branches; ++i) params.branch[i].grad_norm_weight = gradient(norm_weight[2 + i]);
  params.grad_norm1_bias = gradient(norm_bias[0]);
  params.grad_norm2_bias = gradient(norm_bias[1]);
  for (size_t i = 0; i < branches; ++i) params.branch[i].grad_norm_bias = gradient(norm_bias[2 + i]);

  const DType dtype = dtype_of(kOp, x[0]);
  const Tensor workspace =
      new_workspace(x[0], conditional_channel_weighting_batch_norm_backward_workspace_bytes(params, dtype));
  params.workspace = workspace.mutable_data_ptr();
  check_launch(kOp, launch_conditional_channel_weighting_batch_norm_backward(params, dtype, device.stream()));
  for (size_t i = 0; i < branches; ++i) results[i] = in_format_of(results[i], x[i]);
  return results;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("_conditional_channel_weighting_batch_norm_backward",
               TORCH_BOX(&conditional_channel_weighting_batch_norm_backward));
}

}  // namespace litehrnet
