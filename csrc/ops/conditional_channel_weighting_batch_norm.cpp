// Adapter of conditional_channel_weighting_batch_norm: checks, allocation, parameters, device and stream.
#include "ops/conditional_channel_weighting_batch_norm.h"

#include <tuple>

#include "ops/launchers.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "conditional_channel_weighting_batch_norm";

std::tuple<Tensors, Tensor, Tensors> conditional_channel_weighting_batch_norm(
    Tensors x, Tensor weight1, Tensor weight2, Tensors depthwise_weight, Tensors gate_weight1, Tensors gate_bias1,
    Tensors gate_weight2, Tensors gate_bias2, Tensors norm_weight, Tensors norm_bias, Tensors running_mean,
    Tensors running_var, bool training, double eps) {
  const BlockArguments arguments = {weight1,      weight2,   depthwise_weight, gate_weight1, gate_bias1,
                                    gate_weight2, gate_bias2, norm_weight,     norm_bias,    running_mean,
                                    running_var,  training,  eps};
  const Shape channels = check_block(kOp, x, arguments);
  BatchNorms norms(kOp, channels, norm_weight, norm_bias, running_mean, running_var, training, x[0]);

  const DeviceScope device(x[0]);
  ConditionalChannelWeightingBatchNormParams params{};
  Tensors held, outputs, saved;
  Tensor statistics = norms.new_statistics(x[0]);
  set_block(kOp, params, x, arguments, channels, norms, held);
  const Tensor& last = x.back();
  saved.push_back(new_accumulate(x[0], {last.size(0), channels[0], last.size(2), last.size(3)}));
  saved.push_back(new_map(last, channels[1]));
  params.hidden = saved[0].mutable_data_ptr();
  params.logits = saved[1].mutable_data_ptr();
  for (size_t i = 0; i < x.size(); ++i) {
    outputs.push_back(new_map(x[i], x[i].size(1)));
    saved.push_back(new_map(x[i], channels[2 + i]));
    params.branch[i].out = outputs[i].mutable_data_ptr();
    params.branch[i].filtered = saved[2 + i].mutable_data_ptr();
  }
  const DType dtype = dtype_of(kOp, x[0]);
  const Tensor workspace = new_workspace(x[0], conditional_channel_weighting_batch_norm_workspace_bytes(params, dtype));
  params.workspace = workspace.mutable_data_ptr();
  check_launch(kOp, launch_conditional_channel_weighting_batch_norm_forward(params, dtype, device.stream()));
  for (size_t i = 0; i < x.size(); ++i) outputs[i] = in_format_of(outputs[i], x[i]);
  return {outputs, statistics, saved};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("conditional_channel_weighting_batch_norm", TORCH_BOX(&conditional_channel_weighting_batch_norm));
}

}  // namespace litehrnet
