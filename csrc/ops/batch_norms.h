// The batch norms of an op for training: checks of their parameters, and where their statistics lie.
#pragma once

#include "core/batch_norm.h"
#include "ops/checks.h"

namespace litehrnet {

// An uninitialised tensor on x's device, of the type asked for, or of parameters.
inline Tensor new_tensor(const Tensor& x, const Shape& shape, ScalarType type) {
  return torch::stable::new_empty(x, {shape.data(), shape.size()}, type, std::nullopt, std::nullopt, std::nullopt);
}
inline Tensor new_accumulate(const Tensor& x, const Shape& shape) { return new_tensor(x, shape, accumulate_type(x)); }

class LITEHRNET_HIDDEN BatchNorms {
 public:
  // `channels` of each norm. Lists of another length, shape, dtype or device are refused. Running statistics are looked
  // at without `training` alone.
  BatchNorms(const char* op, std::vector<int64_t> channels, const Tensors& weight, const Tensors& bias,
             const Tensors& running_mean, const Tensors& running_var, bool training, const Tensor& x)
      : channels_(std::move(channels)), training_(training) {
    const auto hold = [&](const char* name, const Tensors& list, Tensors& held) {
      STD_TORCH_CHECK(list.size() == channels_.size(), op, ": ", name, ": expected ", channels_.size(),
                      " tensors, one per batch norm, got ", list.size());
      for (size_t i = 0; i < list.size(); ++i)
        held.push_back(checked_accumulate_parameter(op, indexed(name, i), list[i], {channels_[i]}, x));
    };
    hold("norm_weight", weight, weight_);
    hold("norm_bias", bias, bias_);
    if (!training_) {
      hold("running_mean", running_mean, mean_);
      hold("running_var", running_var, variance_);
    }
    for (const int64_t count : channels_) total_ += count;
  }

  // Of the batch: rows mean, variance, unbiased variance; without columns where running statistics are used.
  Tensor new_statistics(const Tensor& x) {
    statistics_ = new_accumulate(x, {3, training_ ? total_ : 0});
    return statistics_;
  }

  // What new_statistics() gave the forward pass.
  void set_statistics(const char* op, const Tensor& statistics, const Tensor& x) {
    statistics_ = checked_accumulate_parameter(op, "statistics", statistics, {3, training_ ? total_ : 0}, x);
  }

  BatchNorm at(size_t index) {
    BatchNorm norm{};
    norm.weight = weight_[index].const_data_ptr();
    norm.bias = bias_[index].const_data_ptr();
    if (training_) {
      int64_t column = 0;
      for (size_t i = 0; i < index; ++i) column += channels_[i];
      auto* base = static_cast<unsigned char*>(statistics_.mutable_data_ptr());
      const int64_t size = statistics_.scalar_type() == ScalarType::Double ? 8 : 4;
      norm.mean = base + column * size;
      norm.variance = base + (total_ + column) * size;
      norm.unbiased_variance = base + (2 * total_ + column) * size;
    } else {
      norm.mean = const_cast<void*>(mean_[index].const_data_ptr());  // read alone
      norm.variance = const_cast<void*>(variance_[index].const_data_ptr());
    }
    return norm;
  }

 private:
  std::vector<int64_t> channels_;
  bool training_;
  int64_t total_ = 0;
  Tensors weight_, bias_, mean_, variance_;
  Tensor statistics_;
};

// Batch statistics need two values: a single one has no unbiased variance. `last` has the fewest.
inline void check_enough_values(const char* op, const Tensor& last, bool training) {
  STD_TORCH_CHECK(!training || last.size(0) * last.size(2) * last.size(3) > 1, op,
                  ": expected more than 1 value per channel when training, got x[-1] of shape ", shape_text(last.sizes()));
}

}  // namespace litehrnet
