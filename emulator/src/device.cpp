// The emulated device: its limits, the errors that they lead to, and the runtime functions that tell of them.
#include <algorithm>
#include <cstring>
#include <map>

#include "launch_log.h"
#include "memory_checks.h"
#include "reports.h"
#include "scheduler.h"
#include "settings.h"
#include "source_lines.h"

namespace emulator {
namespace {

// The limits of compute capability 9.0; 7.5 has 64 KB of shared memory and 1024 threads per multiprocessor.
constexpr unsigned max_threads_per_block = 1024;
constexpr unsigned max_block_z = 64;
constexpr unsigned max_grid_x = 2147483647u;
constexpr unsigned max_grid_yz = 65535;
constexpr std::size_t default_shared = 48 << 10;
constexpr std::size_t max_shared = 227 << 10;
constexpr std::size_t multiprocessor_shared = 228 << 10;
constexpr std::size_t reserved_shared = 1 << 10;  // of each block, by the system
constexpr int multiprocessor_threads = 2048;
constexpr int multiprocessor_blocks = 32;

cudaError_t last_error = cudaSuccess;

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

std::map<const void*, std::size_t>& shared_limits() {
  static std::map<const void*, std::size_t> limits;
  return limits;
}

std::size_t shared_limit(const void* function) {
  const auto raised = shared_limits().find(function);
  return raised != shared_limits().end() ? raised->second : default_shared;
}

int resident_blocks(int threads, std::size_t shared_bytes) {
  const int warps = (threads + 31) / 32;
  const int by_threads = multiprocessor_threads / 32 / warps;
  const int by_shared = static_cast<int>(multiprocessor_shared / (shared_bytes + reserved_shared));
  return std::min({by_threads, by_shared, multiprocessor_blocks});
}

bool valid(dim3 grid, dim3 block) {
  const std::uint64_t threads = static_cast<std::uint64_t>(block.x) * block.y * block.z;
  return threads >= 1 && threads <= max_threads_per_block && block.z <= max_block_z && grid.x >= 1 && grid.y >= 1 &&
         grid.z >= 1 && grid.x <= max_grid_x && grid.y <= max_grid_yz && grid.z <= max_grid_yz;
}

}  // namespace

Settings& settings() {
  static Settings current;
  return current;
}

std::mutex& one_at_a_time() {
  static std::mutex mutex;
  return mutex;
}

cudaError_t execute(const Kernel& kernel, dim3 grid, dim3 block, std::size_t shared_bytes, bool cooperative) {
  const std::lock_guard<std::mutex> lock(one_at_a_time());
  if (!valid(grid, block)) return remember(cudaErrorInvalidConfiguration);
  if (shared_bytes > shared_limit(kernel.function)) return remember(cudaErrorInvalidValue);
  const unsigned threads = block.x * block.y * block.z;
  const std::uint64_t blocks = static_cast<std::uint64_t>(grid.x) * grid.y * grid.z;
  if (cooperative) {
    const auto resident = static_cast<std::uint64_t>(resident_blocks(static_cast<int>(threads), shared_bytes));
    const std::uint64_t most = resident * static_cast<std::uint64_t>(settings().multiprocessors);
    if (blocks > most) {
      report_launch(kernel.function, "cooperative launch too large",
                    "a cooperative launch of " + std::to_string(blocks) + " blocks, and the device holds " +
                        std::to_string(most) + " at once");
      return remember(cudaErrorCooperativeLaunchTooLarge);
    }
  }
  LaunchRecord& record = begin_record(kernel.function, grid, block, shared_bytes, cooperative);
  Launch launch(kernel, grid, block, shared_bytes, cooperative);
  record.error = launch.run();
  return remember(record.error);
}

cudaError_t set_dynamic_shared_limit(const void* function, int bytes) {
  const std::lock_guard<std::mutex> lock(one_at_a_time());
  if (bytes < 0 || static_cast<std::size_t>(bytes) > max_shared) return remember(cudaErrorInvalidValue);
  shared_limits()[function] = static_cast<std::size_t>(bytes);
  return cudaSuccess;
}

cudaError_t blocks_per_multiprocessor(int* blocks, const void* function, int threads, std::size_t shared_bytes) {
  const std::lock_guard<std::mutex> lock(one_at_a_time());
  if (threads < 1) return remember(cudaErrorInvalidValue);
  const bool fits = threads <= static_cast<int>(max_threads_per_block) && shared_bytes <= shared_limit(function);
  *blocks = fits ? resident_blocks(threads, shared_bytes) : 0;
  return cudaSuccess;
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDeviceFunction: return "cudaErrorInvalidDeviceFunction";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorLaunchOutOfResources: return "cudaErrorLaunchOutOfResources";
    case cudaErrorMisalignedAddress: return "cudaErrorMisalignedAddress";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorCooperativeLaunchTooLarge: return "cudaErrorCooperativeLaunchTooLarge";
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  static std::string text;
  text = cudaGetErrorName(error);
  const bool from_a_check = error == cudaErrorLaunchFailure || error == cudaErrorIllegalAddress ||
                            error == cudaErrorMisalignedAddress || error == cudaErrorCooperativeLaunchTooLarge;
  if (from_a_check && !reports().empty()) text += ": " + sentence(reports().front());
  return text.c_str();
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return remember(cudaErrorInvalidValue);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = max_threads_per_block; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = default_shared; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = settings().multiprocessors; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = multiprocessor_threads; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = multiprocessor_shared; break;
    case cudaDevAttrCooperativeLaunch: *value = 1; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = max_shared; break;
    default: return remember(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* address, int value, std::size_t bytes, cudaStream_t) {
  std::memset(address, value, bytes);
  memory_checks().mark_initialised(reinterpret_cast<std::uintptr_t>(address), bytes);
  return cudaSuccess;
}
