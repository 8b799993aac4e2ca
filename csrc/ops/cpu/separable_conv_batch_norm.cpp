// Adapter of separable_conv_batch_norm and its backward op: checks, allocation, parameters.
#include <tuple>

#include "ops/batch_norms.h"
#include "ops/feature_maps.h"
#include "ops/launchers.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "separable_conv_batch_norm";

// What both passes check and read.
struct LITEHRNET_HIDDEN Arguments {
  const Tensor& x;
  const Tensors& depthwise_weight;
  const Tensors& weight;
  int64_t stride;
  bool relu, training;
  double eps;

  int64_t channels() const { return x.size(1); }
  int64_t outputs() const { return mixes() ? weight[0].size(0) : channels(); }
  bool filters() const { return !depthwise_weight.empty(); }
  bool mixes() const { return !weight.empty(); }
  int64_t height() const { return ceil_div(x.size(2), stride); }
  int64_t width() const { return ceil_div(x.size(3), stride); }
  Shape output(int64_t planes) const { return {x.size(0), planes, height(), width()}; }
  Shape norms() const { return filters() ? Shape{channels(), outputs()} : Shape{outputs()}; }
};

void check(const Arguments& a) {
  check_branches(kOp, {a.x});
  STD_TORCH_CHECK(a.depthwise_weight.size() <= 1, kOp, ": depthwise_weight: expected none or one, got ",
                  a.depthwise_weight.size());
  STD_TORCH_CHECK(a.stride == 1 || (a.stride == 2 && a.filters()), kOp, ": stride: expected 1, or 2 with a depthwise ",
                  "convolution, got ", a.stride);
  STD_TORCH_CHECK(a.weight.size() <= 1 && (a.mixes() || !a.filters()), kOp, ": weight: expected one, or none without ",
                  "depthwise_weight, got ", a.weight.size());
  STD_TORCH_CHECK(!a.mixes() || (a.weight[0].dim() == 2 && a.weight[0].size(0) > 0), kOp,
                  ": weight[0]: expected shape [K, ", a.channels(), "], got ",
                  a.mixes() ? shape_text(a.weight[0].sizes()) : "");
  STD_TORCH_CHECK(!a.training || a.x.size(0) * a.height() * a.width() > 1, kOp,
                  ": expected more than 1 value per channel when training, got x of shape ", shape_text(a.x.sizes()));
}

template <class Params>
void set(Params& params, const Arguments& a, BatchNorms& norms, Tensors& held) {
  const auto pointer = [&](Tensor tensor) {
    held.push_back(std::move(tensor));
    return held.back().const_data_ptr();
  };
  params.batch = static_cast<int>(a.x.size(0));
  params.channels = static_cast<int>(a.channels());
  params.outputs = static_cast<int>(a.outputs());
  params.height = static_cast<int>(a.x.size(2));
  params.width = static_cast<int>(a.x.size(3));
  params.stride = static_cast<int>(a.stride);
  params.relu = a.relu;
  params.batch_statistics = a.training;
  params.eps = a.eps;
  const Tensor input = with_contiguous_planes(a.x);
  params.x_image_stride = input.stride(0);
  params.x_plane_stride = input.stride(1);
  params.x = pointer(input);
  if (a.mixes())
    params.weight =
        pointer(checked_accumulate_parameter(kOp, "weight[0]", a.weight[0], {a.outputs(), a.channels()}, a.x));
  if (a.filters()) {
    params.depthwise_weight = pointer(
        checked_accumulate_parameter(kOp, "depthwise_weight[0]", a.depthwise_weight[0], {a.channels(), 3, 3}, a.x));
    params.norm1 = norms.at(0);
  }
  params.norm2 = norms.at(a.filters() ? 1 : 0);
}

Tensor map_of(const Tensor& x, const Shape& shape) { return new_tensor(x, shape, x.scalar_type()); }

// Saved are the filtered maps, if there is a depthwise convolution, and the mixed ones.
std::tuple<Tensor, Tensor, Tensors> separable_conv_batch_norm(Tensor x, Tensors depthwise_weight, Tensors weight,
                                                              Tensors norm_weight, Tensors norm_bias,
                                                              Tensors running_mean, Tensors running_var, int64_t stride,
                                                              bool relu, bool training, double eps) {
  const Arguments a{x, depthwise_weight, weight, stride, relu, training, eps};
  check(a);
  BatchNorms norms(kOp, a.norms(), norm_weight, norm_bias, running_mean, running_var, training, x);
  Tensor statistics = norms.new_statistics(x);
  SeparableConvBatchNormParams params{};
  Tensors held, saved;
  set(params, a, norms, held);
  if (a.filters()) {
    saved.push_back(map_of(x, a.output(a.channels())));
    params.filtered = saved[0].mutable_data_ptr();
  }
  if (a.mixes()) {
    saved.push_back(map_of(x, a.output(a.outputs())));
    params.mixed = saved.back().mutable_data_ptr();
  }
  const Tensor y = map_of(x, a.output(a.outputs()));
  params.y = y.mutable_data_ptr();
  run_on_cpu(params, dtype_of(kOp, x));
  return {in_format_of(y, x), statistics, saved};
}

// Gradients of x, the weights in the order of the arguments, norm_weight and norm_bias.
Tensors separable_conv_batch_norm_backward(Tensor grad_y, Tensor x, Tensors depthwise_weight, Tensors weight,
                                           Tensors norm_weight, Tensors norm_bias, Tensors running_mean,
                                           Tensors running_var, Tensor statistics, Tensors saved, int64_t stride,
                                           bool relu, bool training, double eps) {
  const Arguments a{x, depthwise_weight, weight, stride, relu, training, eps};
  check(a);
  check_count(kOp, "saved", saved.size(), static_cast<size_t>(a.filters()) + a.mixes());
  BatchNorms norms(kOp, a.norms(), norm_weight, norm_bias, running_mean, running_var, training, x);
  norms.set_statistics(kOp, statistics, x);
  SeparableConvBatchNormBackwardParams params{};
  Tensors held, results;
  set(params, a, norms, held);
  const auto map = [&](const char* name, const Tensor& tensor, const Shape& shape) {
    held.push_back(checked_parameter(kOp, name, tensor, shape, x));
    return held.back().const_data_ptr();
  };
  if (a.filters()) params.filtered = map("saved[0]", saved[0], a.output(a.channels()));
  if (a.mixes()) params.mixed = map("saved[-1]", saved.back(), a.output(a.outputs()));
  check_like(kOp, "grad_y", grad_y, x);
  check_shape(kOp, "grad_y", grad_y, a.output(a.outputs()));
  const Tensor grad = with_contiguous_planes(grad_y);
  params.grad_y = grad.const_data_ptr();
  params.grad_y_image_stride = grad.stride(0);
  params.grad_y_plane_stride = grad.stride(1);

  const auto gradient = [&](const Shape& shape) {
    results.push_back(new_accumulate(x, shape));
    return results.back().mutable_data_ptr();
  };
  results.push_back(map_of(x, {x.size(0), x.size(1), x.size(2), x.size(3)}));
  params.grad_x = results[0].mutable_data_ptr();
  if (a.filters()) params.grad_depthwise_weight = gradient({a.channels(), 3, 3});
  if (a.mixes()) params.grad_weight = gradient({a.outputs(), a.channels()});
  if (a.filters()) params.grad_norm1_weight = gradient({a.channels()});
  params.grad_norm2_weight = gradient({a.outputs()});
  if (a.filters()) params.grad_norm1_bias = gradient({a.channels()});
  params.grad_norm2_bias = gradient({a.outputs()});
  run_on_cpu(params, dtype_of(kOp, x));
  results[0] = in_format_of(results[0], x);
  return results;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("separable_conv_batch_norm", TORCH_BOX(&separable_conv_batch_norm));
  library.impl("_separable_conv_batch_norm_backward", TORCH_BOX(&separable_conv_batch_norm_backward));
}

}  // namespace litehrnet
