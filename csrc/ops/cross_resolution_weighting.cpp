// Adapter of cross_resolution_weighting: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "cross_resolution_weighting";

Tensors cross_resolution_weighting(Tensors x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2) {
  check_branches(kOp, x);
  int64_t channels = 0;
  for (const Tensor& branch : x) channels += branch.size(1);
  STD_TORCH_CHECK(weight1.dim() == 2 && weight1.size(0) > 0, kOp, ": weight1: expected shape [R, ", channels, "], got ",
                  shape_text(weight1.sizes()));
  const int64_t hidden = weight1.size(0);

  const DeviceScope device(x[0]);
  CrossResolutionWeightingParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  params.hidden = static_cast<int>(hidden);
  const Tensor w1 = checked_parameter(kOp, "weight1", weight1, {hidden, channels}, x[0]);
  const Tensor b1 = checked_parameter(kOp, "bias1", bias1, {hidden}, x[0]);
  const Tensor w2 = checked_transposed(kOp, "weight2", weight2, {channels, hidden}, x[0]);
  const Tensor b2 = checked_parameter(kOp, "bias2", bias2, {channels}, x[0]);
  params.w1 = w1.const_data_ptr();
  params.b1 = b1.const_data_ptr();
  params.w2_transposed = w2.const_data_ptr();
  params.b2 = b2.const_data_ptr();

  Tensors inputs, outputs;
  for (size_t i = 0; i < x.size(); ++i) {
    inputs.push_back(with_contiguous_planes(x[i]));
    outputs.push_back(new_map(x[i], x[i].size(1)));
    CrossResolutionWeightingBranch& branch = params.branch[i];
    set_sizes(branch, x[i], x[i].size(1));
    branch.x = inputs[i].const_data_ptr();
    branch.x_image_stride = inputs[i].stride(0);
    branch.x_plane_stride = inputs[i].stride(1);
    branch.y = outputs[i].mutable_data_ptr();
    branch.y_image_stride = outputs[i].stride(0);
    branch.y_plane_stride = outputs[i].stride(1);
  }
  check_launch(kOp, launch_cross_resolution_weighting_forward(params, dtype_of(kOp, x[0]), device.stream()));
  for (size_t i = 0; i < x.size(); ++i) outputs[i] = in_format_of(outputs[i], x[i]);
  return outputs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("cross_resolution_weighting", TORCH_BOX(&cross_resolution_weighting));
}

}  // namespace litehrnet
