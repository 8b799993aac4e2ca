// Checks of arguments, each with a message that names the op, the argument, what was expected and what came.
#pragma once

#include <sstream>
#include <string>

#include "core/dtype.h"
#include "ops/device.h"

namespace litehrnet {

using Shape = std::vector<int64_t>;

template <class Sizes>
std::string shape_text(const Sizes& sizes) {
  std::ostringstream text;
  text << '[';
  for (size_t i = 0; i < sizes.size(); ++i) text << (i ? ", " : "") << sizes[i];
  text << ']';
  return text.str();
}

inline DType dtype_of(const char* op, const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return DType::kFloat32;
    case ScalarType::Half: return DType::kFloat16;
    case ScalarType::BFloat16: return DType::kBFloat16;
    case ScalarType::Double: return DType::kFloat64;
    default: STD_TORCH_CHECK(false, op, ": x: expected float32, float16, bfloat16 or float64, got dtype number ",
                             static_cast<int>(tensor.scalar_type()));
  }
}

// Same device as another tensor, the first branch where nothing else is said.
inline void check_device_like(const char* op, const std::string& name, const Tensor& tensor, const Tensor& first,
                              const char* first_name = "x[0]") {
  STD_TORCH_CHECK(tensor.get_device_index() == first.get_device_index() && tensor.is_cuda() == first.is_cuda(), op, ": ",
                  name, ": expected the device of ", first_name, ", index ", static_cast<int>(first.get_device_index()),
                  ", got index ", static_cast<int>(tensor.get_device_index()), tensor.is_cuda() ? " (cuda)" : " (cpu)");
}

// Same device and dtype. `name` may carry an index: "weight[2]".
inline void check_like(const char* op, const std::string& name, const Tensor& tensor, const Tensor& first,
                       const char* first_name = "x[0]") {
  check_device_like(op, name, tensor, first, first_name);
  STD_TORCH_CHECK(tensor.scalar_type() == first.scalar_type(), op, ": ", name, ": expected the dtype of ", first_name,
                  ", number ", static_cast<int>(first.scalar_type()), ", got number ",
                  static_cast<int>(tensor.scalar_type()));
}

inline void check_shape(const char* op, const std::string& name, const Tensor& tensor, const Shape& shape) {
  const auto sizes = tensor.sizes();
  bool same = sizes.size() == shape.size();
  for (size_t i = 0; same && i < shape.size(); ++i) same = sizes[i] == shape[i];
  STD_TORCH_CHECK(same, op, ": ", name, ": expected shape ", shape_text(shape), ", got ", shape_text(sizes));
}

// A parameter of a given shape, made contiguous.
inline Tensor checked_parameter(const char* op, const std::string& name, const Tensor& tensor, const Shape& shape,
                                const Tensor& first) {
  check_like(op, name, tensor, first);
  check_shape(op, name, tensor, shape);
  return torch::stable::contiguous(tensor);
}

// What kernels for training hold parameters, statistics and sums in for feature maps like `x`.
inline ScalarType accumulate_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// A parameter in that type, made contiguous.
inline Tensor checked_accumulate_parameter(const char* op, const std::string& name, const Tensor& tensor,
                                           const Shape& shape, const Tensor& first) {
  check_device_like(op, name, tensor, first);
  const bool wide = first.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(tensor.scalar_type() == accumulate_type(first), op, ": ", name, ": expected ",
                  wide ? "float64" : "float32", ", as training needs beside ",
                  wide ? "float64" : "float32, float16 or bfloat16", " feature maps, got dtype number ",
                  static_cast<int>(tensor.scalar_type()));
  check_shape(op, name, tensor, shape);
  return torch::stable::contiguous(tensor);
}

// A matrix of a given shape [M, N], as the contiguous [N, M] that kernels read: no copy if it is a transposed view of that.
inline Tensor checked_transposed(const char* op, const std::string& name, const Tensor& tensor, const Shape& shape,
                                 const Tensor& first) {
  check_like(op, name, tensor, first);
  STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == shape[0] && tensor.size(1) == shape[1], op, ": ", name,
                  ": expected shape ", shape_text(shape), ", got ", shape_text(tensor.sizes()));
  return torch::stable::contiguous(torch::stable::transpose(tensor, 0, 1));
}

inline void check_count(const char* op, const char* name, size_t count, size_t expected) {
  STD_TORCH_CHECK(count == expected, op, ": ", name, ": expected ", expected, " tensors, one per branch, got ", count);
}

inline std::string indexed(const char* name, size_t index) { return std::string(name) + '[' + std::to_string(index) + ']'; }

// The branches' feature maps: 1 to 4 tensors [N, C_i, H_i, W_i] of one batch size, dtype and device.
inline void check_branches(const char* op, const Tensors& x) {
  STD_TORCH_CHECK(!x.empty() && x.size() <= kMaxBranches, op, ": x: expected 1 to ", kMaxBranches,
                  " branches, got ", x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    STD_TORCH_CHECK(x[i].dim() == 4, op, ": ", indexed("x", i), ": expected shape [N, C, H, W], got ",
                    shape_text(x[i].sizes()));
    check_like(op, indexed("x", i), x[i], x[0]);
    STD_TORCH_CHECK(x[i].size(0) == x[0].size(0), op, ": ", indexed("x", i), ": expected batch size ", x[0].size(0),
                    " as x[0] has, got ", x[i].size(0));
    STD_TORCH_CHECK(x[i].size(1) > 0 && x[i].size(2) > 0 && x[i].size(3) > 0, op, ": ", indexed("x", i),
                    ": expected C, H and W of at least 1, got ", shape_text(x[i].sizes()));
    for (int axis = 0; axis < 4; ++axis)
      STD_TORCH_CHECK(x[i].size(axis) <= INT32_MAX, op, ": ", indexed("x", i), ": expected sizes below 2^31, got ",
                      shape_text(x[i].sizes()));
  }
}

// What is concatenated with a branch: the same shape, dtype and device.
inline const Tensor& kept_branch(const char* op, const Tensor& kept, size_t index, const Tensors& x) {
  const std::string name = indexed("kept", index);
  check_like(op, name, kept, x[0]);
  bool same = kept.dim() == 4;
  for (int axis = 0; same && axis < 4; ++axis) same = kept.size(axis) == x[index].size(axis);
  STD_TORCH_CHECK(same, op, ": ", name, ": expected shape ", shape_text(x[index].sizes()), " as ", indexed("x", index),
                  " has, got ", shape_text(kept.sizes()));
  return kept;
}

}  // namespace litehrnet
