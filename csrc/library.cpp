// All schemas of the dispatcher namespace `litehrnet_cuda`. Python finds them as torch.ops.litehrnet_cuda.<op> once
// litehrnet_cuda/_extension.py has loaded this library.
#include "core/build_info.h"
#include "ops/torch_compat.h"

STABLE_TORCH_LIBRARY(litehrnet_cuda, library) {
  library.def("build_info() -> str");
  // Branches are ordered from high to low resolution. For inference, with batch norms folded into weights and biases:
  library.def(
      "cross_resolution_weighting(Tensor[] x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2) -> Tensor[]");
  library.def("depthwise_conv(Tensor[] x, Tensor[] weight, Tensor[] bias) -> Tensor[]");
  library.def(
      "spatial_weighting(Tensor[] x, Tensor[] kept, Tensor[] weight1, Tensor[] bias1, Tensor[] weight2, "
      "Tensor[] bias2) -> Tensor[]");
  library.def(
      "conditional_channel_weighting(Tensor[] x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, "
      "Tensor[] depthwise_weight, Tensor[] depthwise_bias, Tensor[] gate_weight1, Tensor[] gate_bias1, "
      "Tensor[] gate_weight2, Tensor[] gate_bias2) -> Tensor[]");
  // For training. Results: outputs; statistics [3, channels of all norms]: mean, biased and unbiased variance; what the
  // backward pass needs. Lists of norms are in the order of the convolutions before them.
  library.def(
      "cross_resolution_weighting_batch_norm(Tensor[] x, Tensor weight1, Tensor weight2, Tensor[] norm_weight, "
      "Tensor[] norm_bias, Tensor[] running_mean, Tensor[] running_var, bool training, float eps) "
      "-> (Tensor[], Tensor, Tensor[])");
  library.def(
      "depthwise_conv_batch_norm(Tensor[] x, Tensor[] weight, Tensor[] norm_weight, Tensor[] norm_bias, "
      "Tensor[] running_mean, Tensor[] running_var, bool training, float eps) -> (Tensor[], Tensor, Tensor[])");
  library.def(
      "conditional_channel_weighting_batch_norm(Tensor[] x, Tensor weight1, Tensor weight2, Tensor[] depthwise_weight, "
      "Tensor[] gate_weight1, Tensor[] gate_bias1, Tensor[] gate_weight2, Tensor[] gate_bias2, Tensor[] norm_weight, "
      "Tensor[] norm_bias, Tensor[] running_mean, Tensor[] running_var, bool training, float eps) "
      "-> (Tensor[], Tensor, Tensor[])");
  library.def(
      "update_running_statistics(Tensor(a!)[] running_mean, Tensor(b!)[] running_var, Tensor(c!)[] num_batches_tracked, "
      "Tensor statistics, float momentum) -> ()");
  // Gradients of the outputs first, then the arguments and results of the forward pass; the result has the gradients of
  // all differentiable arguments, in their order.
  library.def(
      "_spatial_weighting_backward(Tensor[] grad_y, Tensor[] x, bool has_kept, Tensor[] weight1, Tensor[] bias1, "
      "Tensor[] weight2, Tensor[] bias2) -> Tensor[]");
  library.def(
      "_cross_resolution_weighting_batch_norm_backward(Tensor[] grad_y, Tensor[] x, Tensor weight1, Tensor weight2, "
      "Tensor[] norm_weight, Tensor[] norm_bias, Tensor[] running_mean, Tensor[] running_var, Tensor statistics, "
      "Tensor[] saved, bool training, float eps) -> Tensor[]");
  library.def(
      "_depthwise_conv_batch_norm_backward(Tensor[] grad_y, Tensor[] x, Tensor[] weight, Tensor[] norm_weight, "
      "Tensor[] norm_bias, Tensor[] running_mean, Tensor[] running_var, Tensor statistics, Tensor[] saved, "
      "bool training, float eps) -> Tensor[]");
  library.def(
      "_conditional_channel_weighting_batch_norm_backward(Tensor[] grad_y, Tensor[] x, Tensor weight1, Tensor weight2, "
      "Tensor[] depthwise_weight, Tensor[] gate_weight1, Tensor[] gate_bias1, Tensor[] gate_weight2, "
      "Tensor[] gate_bias2, Tensor[] norm_weight, Tensor[] norm_bias, Tensor[] running_mean, Tensor[] running_var, "
      "Tensor statistics, Tensor[] saved, bool training, float eps) -> Tensor[]");
  // A depthwise 3x3 convolution and a 1x1 convolution, each with its batch norm, and perhaps a ReLU. Empty lists leave out the
  // first one and its norm, or both convolutions.
  library.def(
      "separable_conv_batch_norm(Tensor x, Tensor[] depthwise_weight, Tensor[] weight, Tensor[] norm_weight, "
      "Tensor[] norm_bias, Tensor[] running_mean, Tensor[] running_var, int stride, bool relu, bool training, float eps) "
      "-> (Tensor, Tensor, Tensor[])");
  library.def(
      "_separable_conv_batch_norm_backward(Tensor grad_y, Tensor x, Tensor[] depthwise_weight, Tensor[] weight, "
      "Tensor[] norm_weight, Tensor[] norm_bias, Tensor[] running_mean, Tensor[] running_var, Tensor statistics, "
      "Tensor[] saved, int stride, bool relu, bool training, float eps) -> Tensor[]");
  // Maps of several sizes, each so many times, summed at the first one's; what is asked for of the sum and its positive
  // part. The backward op takes gradients of these (an empty list: zeros), the positive part, and heights and widths of
  // all terms, one after the other.
  library.def("weighted_sum(Tensor[] x, int[] counts, bool sum, bool relu) -> Tensor[]");
  library.def(
      "_weighted_sum_backward(Tensor[] grad_sum, Tensor[] grad_y, Tensor[] y, int[] sizes, int[] counts) -> Tensor[]");
  // The inference plan of a whole network, see litehrnet_cuda/plan/program.py: weights and tables, and a list of numbers
  // on the CPU; shapes are channels, height and width of every output; `persistent`: all in one launch.
  library.def(
      "_run_plan(Tensor images, Tensor constants, Tensor program, int arena_bytes, int[] shapes, bool persistent) "
      "-> Tensor[]");
  library.def(
      "_run_plan_steps(Tensor images, Tensor constants, Tensor program, Tensor(a!) arena, Tensor(b!)[] outputs, "
      "int first, int end) -> ()");
}

// No tensor argument says which device it is for, so one implementation serves them all.
STABLE_TORCH_LIBRARY_IMPL(litehrnet_cuda, CompositeExplicitAutograd, library) {
  library.impl("build_info", TORCH_BOX(&litehrnet::build_info));
}
