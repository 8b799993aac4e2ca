// Adapter of _spatial_weighting_backward: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/batch_norms.h"
#include "ops/feature_maps.h"
#include "ops/gate_weights.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "_spatial_weighting_backward";

// Gradients of x, of what was kept (none without `has_kept`), and of the weights, each in the weight's own dtype.
Tensors spatial_weighting_backward(Tensors grad_y, Tensors x, bool has_kept, Tensors weight1, Tensors bias1,
                                   Tensors weight2, Tensors bias2) {
  check_branches(kOp, x);
  check_count(kOp, "grad_y", grad_y.size(), x.size());
  const GateWeights weights(kOp, x, weight1, bias1, weight2, bias2, true);

  const DeviceScope device(x[0]);
  SpatialWeightingBackwardParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  Tensors held;  // copies that the kernels read, and what they pass on
  Tensors grad_x, grad_kept;
  Tensors grad_weights[4];
  const Tensors* const lists[4] = {&weight1, &bias1, &weight2, &bias2};
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t channels = x[i].size(1);
    check_like(kOp, indexed("grad_y", i), grad_y[i], x[0]);
    check_shape(kOp, indexed("grad_y", i), grad_y[i],
                {x[i].size(0), has_kept ? 2 * channels : channels, x[i].size(2), x[i].size(3)});
    SpatialWeightingBackwardBranch& branch = params.branch[i];
    set_sizes(branch, x[i], channels);
    weights.set(branch, i);
    const Tensor grad = with_contiguous_planes(grad_y[i]), input = with_contiguous_planes(x[i]);
    branch.grad_output = grad.const_data_ptr();
    branch.grad_output_image_stride = grad.stride(0);
    branch.grad_output_plane_stride = grad.stride(1);
    branch.x = input.const_data_ptr();
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    grad_x.push_back(new_map(x[i], channels));
    branch.grad_x = grad_x[i].mutable_data_ptr();
    if (has_kept) {
      grad_kept.push_back(new_map(x[i], channels));
      branch.grad_kept = grad_kept[i].mutable_data_ptr();
      branch.grad_kept_image_stride = grad_kept[i].stride(0);
      branch.grad_kept_plane_stride = grad_kept[i].stride(1);
    }
    const Tensor coefficients = new_accumulate(x[0], {x[i].size(0), channels, kCoefficients});
    branch.coefficients = coefficients.mutable_data_ptr();
    held.insert(held.end(), {grad, input, coefficients});
    void** const grads[4] = {&branch.grad_w1, &branch.grad_b1, &branch.grad_w2, &branch.grad_b2};
    for (int k = 0; k < 4; ++k) {
      const auto sizes = (*lists[k])[i].sizes();
      grad_weights[k].push_back(new_accumulate(x[0], {sizes.begin(), sizes.end()}));
      *grads[k] = grad_weights[k][i].mutable_data_ptr();
    }
  }
  const DType dtype = dtype_of(kOp, x[0]);
  const Tensor workspace = new_workspace(x[0], spatial_weighting_backward_workspace_bytes(params, dtype));
  params.workspace = workspace.mutable_data_ptr();
  check_launch(kOp, launch_spatial_weighting_backward(params, dtype, device.stream()));
  Tensors gradients;
  for (const Tensors* maps : {&grad_x, &grad_kept})
    for (size_t i = 0; i < maps->size(); ++i) gradients.push_back(in_format_of((*maps)[i], x[i]));
  for (int k = 0; k < 4; ++k)
    for (size_t i = 0; i < x.size(); ++i)
      gradients.push_back(torch::stable::to(grad_weights[k][i], (*lists[k])[i].scalar_type()));
  return gradients;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("_spatial_weighting_backward", TORCH_BOX(&spatial_weighting_backward));
}

}  // namespace litehrnet
