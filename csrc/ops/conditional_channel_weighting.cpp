// Adapter of conditional_channel_weighting: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "conditional_channel_weighting";

Tensors conditional_channel_weighting(Tensors x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2,
                                      Tensors depthwise_weight, Tensors depthwise_bias, Tensors gate_weight1,
                                      Tensors gate_bias1, Tensors gate_weight2, Tensors gate_bias2) {
  check_branches(kOp, x);
  check_count(kOp, "depthwise_weight", depthwise_weight.size(), x.size());
  check_count(kOp, "depthwise_bias", depthwise_bias.size(), x.size());
  check_count(kOp, "gate_weight1", gate_weight1.size(), x.size());
  check_count(kOp, "gate_bias1", gate_bias1.size(), x.size());
  check_count(kOp, "gate_weight2", gate_weight2.size(), x.size());
  check_count(kOp, "gate_bias2", gate_bias2.size(), x.size());
  int64_t total = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    STD_TORCH_CHECK(x[i].size(1) % 2 == 0, kOp, ": ", indexed("x", i),
                    ": expected an even number of channels, because they are split in halves, got ", x[i].size(1));
    total += x[i].size(1) / 2;
  }
  STD_TORCH_CHECK(weight1.dim() == 2 && weight1.size(0) > 0, kOp, ": weight1: expected shape [R, ", total, "], got ",
                  shape_text(weight1.sizes()));
  const int64_t hidden = weight1.size(0);

  const DeviceScope device(x[0]);
  ConditionalChannelWeightingParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  params.hidden = static_cast<int>(hidden);
  Tensors held, outputs;  // held: copies that the kernels read
  const auto pointer = [&](Tensor tensor) {
    held.push_back(std::move(tensor));
    return held.back().const_data_ptr();
  };
  params.w1 = pointer(checked_parameter(kOp, "weight1", weight1, {hidden, total}, x[0]));
  params.b1 = pointer(checked_parameter(kOp, "bias1", bias1, {hidden}, x[0]));
  params.w2_transposed = pointer(checked_transposed(kOp, "weight2", weight2, {total, hidden}, x[0]));
  params.b2 = pointer(checked_parameter(kOp, "bias2", bias2, {total}, x[0]));
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t channels = x[i].size(1) / 2;
    STD_TORCH_CHECK(gate_weight1[i].dim() == 2 && gate_weight1[i].size(0) > 0, kOp, ": ", indexed("gate_weight1", i),
                    ": expected shape [S, ", channels, "], got ", shape_text(gate_weight1[i].sizes()));
    const int64_t gate_hidden = gate_weight1[i].size(0);
    const auto parameter = [&](const char* name, const Tensors& list, const Shape& shape) {
      return pointer(checked_parameter(kOp, indexed(name, i), list[i], shape, x[0]));
    };
    ConditionalChannelWeightingBranch& branch = params.branch[i];
    set_sizes(branch, x[i], channels);
    branch.gate_hidden = static_cast<int>(gate_hidden);
    branch.depthwise_weight = parameter("depthwise_weight", depthwise_weight, {channels, 3, 3});
    branch.depthwise_bias = parameter("depthwise_bias", depthwise_bias, {channels});
    branch.gate_w1 = parameter("gate_weight1", gate_weight1, {gate_hidden, channels});
    branch.gate_b1 = parameter("gate_bias1", gate_bias1, {gate_hidden});
    branch.gate_w2 = parameter("gate_weight2", gate_weight2, {channels, gate_hidden});
    branch.gate_b2 = parameter("gate_bias2", gate_bias2, {channels});
    const Tensor input = with_contiguous_planes(x[i]);
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    branch.x = pointer(input);
    outputs.push_back(new_map(x[i], 2 * channels));
    branch.out = outputs[i].mutable_data_ptr();
  }
  const DType dtype = dtype_of(kOp, x[0]);
  const Tensor workspace = new_workspace(x[0], conditional_channel_weighting_workspace_bytes(params, dtype));
  params.workspace = workspace.mutable_data_ptr();
  check_launch(kOp, launch_conditional_channel_weighting_forward(params, dtype, device.stream()));
  for (size_t i = 0; i < x.size(); ++i) outputs[i] = in_format_of(outputs[i], x[i]);
  return outputs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("conditional_channel_weighting", TORCH_BOX(&conditional_channel_weighting));
}

}  // namespace litehrnet
