// What the adapters of conditional_channel_weighting_batch_norm and of its backward pass have in common: the arguments.
#pragma once

#include "ops/batch_norms.h"
#include "ops/feature_maps.h"

namespace litehrnet {

// The parameters of the block as the schema lists them, after x.
struct LITEHRNET_HIDDEN BlockArguments {
  const Tensor& weight1;
  const Tensor& weight2;
  const Tensors& depthwise_weight;
  const Tensors& gate_weight1;
  const Tensors& gate_bias1;
  const Tensors& gate_weight2;
  const Tensors& gate_bias2;
  const Tensors& norm_weight;
  const Tensors& norm_bias;
  const Tensors& running_mean;
  const Tensors& running_var;
  bool training;
  double eps;
};

// Channels of the batch norms: of the hidden maps, of the logits, of every branch's filtered half.
inline Shape check_block(const char* op, const Tensors& x, const BlockArguments& arguments) {
  check_branches(op, x);
  check_count(op, "depthwise_weight", arguments.depthwise_weight.size(), x.size());
  check_count(op, "gate_weight1", arguments.gate_weight1.size(), x.size());
  check_count(op, "gate_bias1", arguments.gate_bias1.size(), x.size());
  check_count(op, "gate_weight2", arguments.gate_weight2.size(), x.size());
  check_count(op, "gate_bias2", arguments.gate_bias2.size(), x.size());
  Shape channels = {0, 0};
  for (size_t i = 0; i < x.size(); ++i) {
    STD_TORCH_CHECK(x[i].size(1) % 2 == 0, op, ": ", indexed("x", i),
                    ": expected an even number of channels, because they are split in halves, got ", x[i].size(1));
    channels.push_back(x[i].size(1) / 2);
    channels[1] += channels.back();
    const Tensor& gate = arguments.gate_weight1[i];
    STD_TORCH_CHECK(gate.dim() == 2 && gate.size(0) > 0, op, ": ", indexed("gate_weight1", i), ": expected shape [S, ",
                    channels.back(), "], got ", shape_text(gate.sizes()));
  }
  STD_TORCH_CHECK(arguments.weight1.dim() == 2 && arguments.weight1.size(0) > 0, op, ": weight1: expected shape [R, ",
                  channels[1], "], got ", shape_text(arguments.weight1.sizes()));
  channels[0] = arguments.weight1.size(0);
  check_enough_values(op, x.back(), arguments.training);
  return channels;
}

// Fills in what both passes read. `held` keeps the copies that kernels read.
template <class Params>
void set_block(const char* op, Params& params, const Tensors& x, const BlockArguments& arguments, const Shape& channels,
               BatchNorms& norms, Tensors& held) {
  const auto pointer = [&](Tensor tensor) {
    held.push_back(std::move(tensor));
    return held.back().const_data_ptr();
  };
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  params.hidden_channels = static_cast<int>(channels[0]);
  params.eps = arguments.eps;
  params.batch_statistics = arguments.training;
  const auto parameter = [&](const std::string& name, const Tensor& tensor, const Shape& shape) {
    return pointer(checked_accumulate_parameter(op, name, tensor, shape, x[0]));
  };
  params.w1 = parameter("weight1", arguments.weight1, {channels[0], channels[1]});
  params.w2 = parameter("weight2", arguments.weight2, {channels[1], channels[0]});
  params.norm1 = norms.at(0);
  params.norm2 = norms.at(1);
  for (size_t i = 0; i < x.size(); ++i) {
    auto& branch = params.branch[i];
    const int64_t c = channels[2 + i], hidden = arguments.gate_weight1[i].size(0);
    set_sizes(branch, x[i], c);
    branch.gate_hidden = static_cast<int>(hidden);
    branch.depthwise_weight = parameter(indexed("depthwise_weight", i), arguments.depthwise_weight[i], {c, 3, 3});
    branch.norm = norms.at(2 + i);
    branch.gate_w1 = parameter(indexed("gate_weight1", i), arguments.gate_weight1[i], {hidden, c});
    branch.gate_b1 = parameter(indexed("gate_bias1", i), arguments.gate_bias1[i], {hidden});
    branch.gate_w2 = parameter(indexed("gate_weight2", i), arguments.gate_weight2[i], {c, hidden});
    branch.gate_b2 = parameter(indexed("gate_bias2", i), arguments.gate_bias2[i], {c});
    const Tensor input = with_contiguous_planes(x[i]);
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    branch.x = pointer(input);
  }
}

}  // namespace litehrnet
