// Adapter of spatial_weighting: checks, allocation, parameters, device and stream.
#include "cuda/spatial_weighting.h"

#include "ops/feature_maps.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "spatial_weighting";

// `kept` is empty, or has one tensor per branch, to be concatenated before the weighted channels and shuffled with them.
Tensors spatial_weighting(Tensors x, Tensors kept, Tensors weight1, Tensors bias1, Tensors weight2, Tensors bias2) {
  check_branches(kOp, x);
  if (!kept.empty()) check_count(kOp, "kept", kept.size(), x.size());
  check_count(kOp, "weight1", weight1.size(), x.size());
  check_count(kOp, "bias1", bias1.size(), x.size());
  check_count(kOp, "weight2", weight2.size(), x.size());
  check_count(kOp, "bias2", bias2.size(), x.size());

  const DeviceScope device(x[0]);
  SpatialWeightingParams params{};
  params.branches = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  Tensors held, outputs;  // held: copies that the kernel reads
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t channels = x[i].size(1);
    STD_TORCH_CHECK(weight1[i].dim() == 2 && weight1[i].size(0) > 0, kOp, ": ", indexed("weight1", i),
                    ": expected shape [R, ", channels, "], got ", shape_text(weight1[i].sizes()));
    const int64_t hidden = weight1[i].size(0);
    const Tensor input = with_contiguous_planes(x[i]);
    const Tensor w1 = checked_parameter(kOp, indexed("weight1", i), weight1[i], {hidden, channels}, x[0]);
    const Tensor b1 = checked_parameter(kOp, indexed("bias1", i), bias1[i], {hidden}, x[0]);
    const Tensor w2 = checked_parameter(kOp, indexed("weight2", i), weight2[i], {channels, hidden}, x[0]);
    const Tensor b2 = checked_parameter(kOp, indexed("bias2", i), bias2[i], {channels}, x[0]);
    held.insert(held.end(), {input, w1, b1, w2, b2});
    outputs.push_back(new_map(x[i], kept.empty() ? channels : 2 * channels));
    SpatialWeightingBranch& branch = params.branch[i];
    set_sizes(branch, x[i], channels);
    branch.hidden = static_cast<int>(hidden);
    branch.x = input.const_data_ptr();
    branch.x_image_stride = input.stride(0);
    branch.x_plane_stride = input.stride(1);
    branch.w1 = w1.const_data_ptr();
    branch.b1 = b1.const_data_ptr();
    branch.w2 = w2.const_data_ptr();
    branch.b2 = b2.const_data_ptr();
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

STABLE_TORCH_LIBRARY_IMPL(litehrnet_cuda, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("spatial_weighting", TORCH_BOX(&spatial_weighting));
}

}  // namespace litehrnet
