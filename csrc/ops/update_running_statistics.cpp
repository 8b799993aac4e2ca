// Adapter of update_running_statistics: checks, parameters, device and stream.
#include "ops/launchers.h"

#include "ops/batch_norms.h"

namespace litehrnet {
namespace {

constexpr const char* kOp = "update_running_statistics";

// Writes to the running statistics, which must be contiguous: a copy would be updated in their place.
void update_running_statistics(Tensors running_mean, Tensors running_var, Tensors num_batches_tracked,
                               Tensor statistics, double momentum) {
  STD_TORCH_CHECK(!running_mean.empty() && running_mean.size() <= kMaxNorms, kOp, ": running_mean: expected 1 to ",
                  kMaxNorms, " tensors, got ", running_mean.size());
  const auto check_length = [&](const char* name, size_t length) {
    STD_TORCH_CHECK(length == running_mean.size(), kOp, ": ", name, ": expected ", running_mean.size(),
                    " tensors, as many as running_mean, got ", length);
  };
  check_length("running_var", running_var.size());
  if (!num_batches_tracked.empty()) check_length("num_batches_tracked", num_batches_tracked.size());

  const Tensor& first = running_mean[0];
  const DeviceScope device(first);
  UpdateRunningStatisticsParams params{};
  params.norms = static_cast<int>(running_mean.size());
  params.momentum = momentum;
  int64_t total = 0;
  const auto written = [&](const std::string& name, const Tensor& tensor, const Shape& shape) {
    check_shape(kOp, name, tensor, shape);
    STD_TORCH_CHECK(tensor.is_contiguous(), kOp, ": ", name, ": expected a contiguous tensor, which can be written to");
    return tensor.mutable_data_ptr();
  };
  for (size_t i = 0; i < running_mean.size(); ++i) {
    STD_TORCH_CHECK(running_mean[i].dim() == 1 && running_mean[i].size(0) > 0, kOp, ": ", indexed("running_mean", i),
                    ": expected shape [C], got ", shape_text(running_mean[i].sizes()));
    const int64_t channels = running_mean[i].size(0);
    check_like(kOp, indexed("running_mean", i), running_mean[i], first, "running_mean[0]");
    check_like(kOp, indexed("running_var", i), running_var[i], first, "running_mean[0]");
    RunningStatistics& norm = params.norm[i];
    norm.channels = static_cast<int>(channels);
    norm.mean = written(indexed("running_mean", i), running_mean[i], {channels});
    norm.variance = written(indexed("running_var", i), running_var[i], {channels});
    if (!num_batches_tracked.empty()) {
      const Tensor& count = num_batches_tracked[i];
      STD_TORCH_CHECK(count.numel() == 1 && count.scalar_type() == ScalarType::Long && count.is_cuda() == first.is_cuda() &&
                          count.get_device_index() == first.get_device_index(),
                      kOp, ": ", indexed("num_batches_tracked", i),
                      ": expected one int64 on the device of the running statistics, got shape ", shape_text(count.sizes()));
      norm.batches = static_cast<std::int64_t*>(count.mutable_data_ptr());
    }
    total += channels;
  }
  const Tensor rows = checked_accumulate_parameter(kOp, "statistics", statistics, {3, total}, first);
  params.statistics = rows.const_data_ptr();
  check_launch(kOp, launch_update_running_statistics(params, dtype_of(kOp, first), device.stream()));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library) {
  library.impl("update_running_statistics", TORCH_BOX(&update_running_statistics));
}

}  // namespace litehrnet
