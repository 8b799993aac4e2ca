// Adapter of spatial_weighting: checks, allocation, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/feature_maps.h"
#include "ops/gate_weights.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "spatial_weighting";

// `kept` is empty, or has one tensor per branch, to be concatenated before the weighted channels and shuffled with them.
Tensors spatial_weighting(Tensors x, Tensors kept, Tensors weight1, Tensors bias1, Tensors weight2, Tensors bias2) {
  check_branches(kOp, x);
  if (!kept.empty()) check_count(kOp, "kept", kept.size(), x.size());
  const GateWeights weights(kOp, x, weight1, bias1, weight2, bias2);

  const DeviceScope device(x[0]);
  SpatialWeightingParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  params.accumulate_weights = weights.accumulate();
  Tensors held, outputs;  // held: copies that the kernel reads
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t channels = x[i].size(1);
    const Tensor input = with_contiguous_planes(x[i]);
    held.push_back(input);
    outputs.push_back(new_map(x[i], kept.empty() ? channels : 2 * channels));
    SpatialWeightingBranch& branch = params.branch[i];
    set_sizes(branch, x[i], channels);
    branch.x = input.const_data_ptr();
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    weights.set(branch, i);
    branch.out = outputs[i].mutable_data_ptr();
    if (!kept.empty()) {
      const Tensor other = with_contiguous_planes(kept_branch(kOp, kept[i], i, x));
      held.push_back(other);
      branch.kept = other.const_data_ptr();
      branch.kept_image_stride = other.stride(0);
      branch.kept_plane_stride = other.stride(1);
    }
  }
  check_launch(kOp, launch_spatial_weighting_forward(params, dtype_of(kOp, x[0]), device.stream()));
  for (size_t i = 0; i < x.size(); ++i) outputs[i] = in_format_of(outputs[i], x[i]);
  return outputs;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("spatial_weighting", TORCH_BOX(&spatial_weighting));
}

}  // namespace litehrnet
