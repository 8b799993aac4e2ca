// Adapter of cross_resolution_weighting_batch_norm: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include <tuple>

#include "ops/batch_norms.h"
#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "cross_resolution_weighting_batch_norm";

// Returns y; the batch's statistics; hidden and logits, which the backward pass needs.
std::tuple<Tensors, Tensor, Tensors> cross_resolution_weighting_batch_norm(
    Tensors x, Tensor weight1, Tensor weight2, Tensors norm_weight, Tensors norm_bias, Tensors running_mean,
    Tensors running_var, bool training, double eps) {
  check_branches(kOp, x);
  const DType dtype = dtype_of(kOp, x[0]);
  check_enough_values(kOp, x.back(), training);
  int64_t channels = 0;
  for (const Tensor& branch : x) channels += branch.size(1);
  STD_TORCH_CHECK(weight1.dim() == 2 && weight1.size(0) > 0, kOp, ": weight1: expected shape [R, ", channels, "], got ",
                  shape_text(weight1.sizes()));
  const int64_t hidden_channels = weight1.size(0);

  const DeviceScope device(x[0]);
  const Tensor w1 = checked_accumulate_parameter(kOp, "weight1", weight1, {hidden_channels, channels}, x[0]);
  const Tensor w2 = checked_accumulate_parameter(kOp, "weight2", weight2, {channels, hidden_channels}, x[0]);
  BatchNorms norms(kOp, {hidden_channels, channels}, norm_weight, norm_bias, running_mean, running_var, training, x[0]);
  const Tensor& last = x.back();
  const Tensor statistics = norms.new_statistics(x[0]);
  const Tensor hidden = new_accumulate(last, {last.size(0), hidden_channels, last.size(2), last.size(3)});
  const Tensor logits = new_map(last, channels);
  CrossResolutionWeightingBatchNormParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(last.size(0));
  params.hidden_channels = static_cast<int>(hidden_channels);
  params.batch_statistics = training;
  params.eps = eps;
  params.w1 = w1.const_data_ptr();
  params.w2 = w2.const_data_ptr();
  params.norm1 = norms.at(0);
  params.norm2 = norms.at(1);
  params.hidden = hidden.mutable_data_ptr();
  params.logits = logits.mutable_data_ptr();

  Tensors inputs, outputs;
  for (size_t i = 0; i < x.size(); ++i) {
    inputs.push_back(with_contiguous_planes(x[i]));
    outputs.push_back(new_map(x[i], x[i].size(1)));
    CrossResolutionWeightingBatchNormBranch& branch = params.branch[i];
    set_sizes(branch, x[i], x[i].size(1));
    branch.x = inputs[i].const_data_ptr();
    branch.x_image_stride = inputs[i].stride(0);
    branch.x_plane_stride = inputs[i].stride(1);
    branch.y = outputs[i].mutable_data_ptr();
  }
  const Tensor workspace = new_workspace(x[0], cross_resolution_weighting_batch_norm_workspace_bytes(params, dtype));
  params.workspace = workspace.mutable_data_ptr();
  check_launch(kOp, launch_cross_resolution_weighting_batch_norm_forward(params, dtype, device.stream()));
  for (size_t i = 0; i < x.size(); ++i) outputs[i] = in_format_of(outputs[i], x[i]);
  return {outputs, statistics, {hidden, logits}};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("cross_resolution_weighting_batch_norm", TORCH_BOX(&cross_resolution_weighting_batch_norm));
}

}  // namespace litehrnet
