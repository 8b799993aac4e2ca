// The weights of spatial weighting's gates: in the feature maps' dtype, as inference has them, or in the one that
// kernels accumulate in, as training does beside maps of 16 bits.
#pragma once

#include "ops/checks.h"

namespace litehrnet {

inline std::string type_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Double: return "float64";
    default: return "dtype number " + std::to_string(static_cast<int>(type));
  }
}

class LITEHRNET_HIDDEN GateWeights {
 public:
  // Refuses lists, shapes, dtypes and devices that do not fit. The maps' dtype is kept where all weights have it and
  // `accumulate` is not set; else all are copied to the accumulation type, those that have it already excepted.
  GateWeights(const char* op, const Tensors& x, const Tensors& weight1, const Tensors& bias1, const Tensors& weight2,
              const Tensors& bias2, bool accumulate = false) {
    const Tensors* const lists[kCount] = {&weight1, &bias1, &weight2, &bias2};
    for (int k = 0; k < kCount; ++k) check_count(op, kNames[k], lists[k]->size(), x.size());
    type_ = x[0].scalar_type();
    if (accumulate) type_ = accumulate_type(x[0]);
    for (size_t i = 0; i < x.size(); ++i) {
      const int64_t channels = x[i].size(1);
      STD_TORCH_CHECK(weight1[i].dim() == 2 && weight1[i].size(0) > 0, op, ": ", indexed("weight1", i),
                      ": expected shape [R, ", channels, "], got ", shape_text(weight1[i].sizes()));
      const int64_t hidden = weight1[i].size(0);
      const Shape shapes[kCount] = {{hidden, channels}, {hidden}, {channels, hidden}, {channels}};
      for (int k = 0; k < kCount; ++k) {
        const Tensor& tensor = (*lists[k])[i];
        const std::string name = indexed(kNames[k], i);
        check_device_like(op, name, tensor, x[0]);
        const ScalarType type = tensor.scalar_type();
        const bool wide = accumulate_type(x[0]) != x[0].scalar_type();
        STD_TORCH_CHECK(type == x[0].scalar_type() || type == accumulate_type(x[0]), op, ": ", name, ": expected ",
                        type_name(x[0].scalar_type()), " as x[0] has", wide ? ", or float32" : "", ", got ",
                        type_name(type));
        check_shape(op, name, tensor, shapes[k]);
        if (type != x[0].scalar_type()) type_ = type;
        held_.push_back(tensor);
      }
    }
    accumulate_ = type_ != x[0].scalar_type();
    for (Tensor& tensor : held_) tensor = torch::stable::contiguous(torch::stable::to(tensor, type_));
  }

  // Whether kernels get the accumulation type although the maps have another one.
  bool accumulate() const { return accumulate_; }

  template <class Branch>
  void set(Branch& branch, size_t index) const {
    const Tensor* const own = &held_[kCount * index];
    branch.hidden = static_cast<int>(own[0].size(0));
    branch.w1 = own[0].const_data_ptr();
    branch.b1 = own[1].const_data_ptr();
    branch.w2 = own[2].const_data_ptr();
    branch.b2 = own[3].const_data_ptr();
  }

 private:
  static constexpr int kCount = 4;
  static constexpr const char* kNames[kCount] = {"weight1", "bias1", "weight2", "bias2"};

  Tensors held_;
  ScalarType type_;
  bool accumulate_;
};

}  // namespace litehrnet
