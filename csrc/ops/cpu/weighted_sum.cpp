// Adapter of weighted_sum and its backward op: checks, allocation, parameters.
#include "ops/batch_norms.h"
#include "ops/feature_maps.h"
#include "ops/launchers.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "weighted_sum";

void check_terms(size_t terms, size_t counts) {
  STD_TORCH_CHECK(terms >= 1 && terms <= kMaxTerms, kOp, ": x: expected 1 to ", kMaxTerms, " terms, got ", terms);
  STD_TORCH_CHECK(counts == terms, kOp, ": counts: expected ", terms, ", one per term, got ", counts);
}

// The sum and its positive part, those that are asked for.
Tensors weighted_sum(Tensors x, std::vector<int64_t> counts, bool sum, bool relu) {
  check_terms(x.size(), counts.size());
  check_branches(kOp, {x[0]});
  WeightedSumParams params{};
  params.terms = static_cast<int>(x.size());
  params.batch = static_cast<int>(x[0].size(0));
  params.channels = static_cast<int>(x[0].size(1));
  Tensors held, results;
  for (size_t j = 0; j < x.size(); ++j) {
    check_branches(kOp, {x[j]});
    check_like(kOp, indexed("x", j), x[j], x[0]);
    check_shape(kOp, indexed("x", j), x[j], {x[0].size(0), x[0].size(1), x[j].size(2), x[j].size(3)});
    held.push_back(with_contiguous_planes(x[j]));
    WeightedTerm& term = params.term[j];
    term.x = held[j].const_data_ptr();
    term.x_image_stride = held[j].stride(0);
    term.x_plane_stride = held[j].stride(1);
    term.factor = static_cast<double>(counts[j]);
    term.height = static_cast<int>(x[j].size(2));
    term.width = static_cast<int>(x[j].size(3));
  }
  const auto result = [&] {
    results.push_back(new_map(x[0], x[0].size(1)));
    return results.back().mutable_data_ptr();
  };
  if (sum) params.sum = result();
  if (relu) params.y = result();
  run_on_cpu(params, dtype_of(kOp, x[0]));
  for (Tensor& tensor : results) tensor = in_format_of(tensor, x[0]);
  return results;
}

// Gradients of all terms.
Tensors weighted_sum_backward(Tensors grad_sum, Tensors grad_y, Tensors y, std::vector<int64_t> sizes,
                              std::vector<int64_t> counts) {
  check_terms(sizes.size() / 2, counts.size());
  STD_TORCH_CHECK(grad_sum.size() <= 1 && grad_y.size() == y.size() && y.size() <= 1 && grad_sum.size() + y.size() > 0, kOp,
                  ": expected a gradient");
  const Tensor& first = grad_sum.empty() ? grad_y[0] : grad_sum[0];
  WeightedSumBackwardParams params{};
  params.terms = static_cast<int>(counts.size());
  params.batch = static_cast<int>(first.size(0));
  params.channels = static_cast<int>(first.size(1));
  Tensors held, results;
  const auto set = [&](const Tensors& list, const void*& data, std::int64_t& image_stride, std::int64_t& plane_stride) {
    if (list.empty()) return;
    check_branches(kOp, {list[0]});
    check_like(kOp, "grad", list[0], first);
    check_shape(kOp, "grad", list[0], {first.size(0), first.size(1), sizes[0], sizes[1]});
    held.push_back(with_contiguous_planes(list[0]));
    data = held.back().const_data_ptr();
    image_stride = held.back().stride(0);
    plane_stride = held.back().stride(1);
  };
  set(grad_sum, params.grad_sum, params.grad_sum_image_stride, params.grad_sum_plane_stride);
  set(grad_y, params.grad_y, params.grad_y_image_stride, params.grad_y_plane_stride);
  set(y, params.y, params.y_image_stride, params.y_plane_stride);
  for (size_t j = 0; j < counts.size(); ++j) {
    WeightedTerm& term = params.term[j];
    term.factor = static_cast<double>(counts[j]);
    term.height = static_cast<int>(sizes[2 * j]);
    term.width = static_cast<int>(sizes[2 * j + 1]);
    results.push_back(
        new_tensor(first, {first.size(0), first.size(1), sizes[2 * j], sizes[2 * j + 1]}, first.scalar_type()));
    term.grad_x = results[j].mutable_data_ptr();
  }
  run_on_cpu(params, dtype_of(kOp, first));
  return results;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("weighted_sum", TORCH_BOX(&weighted_sum));
  library.impl("_weighted_sum_backward", TORCH_BOX(&weighted_sum_backward));
}

}  // namespace litehrnet
