// The launch for all steps of a plan in fp32.
#include "cuda/plan_persistent_kernel.cuh"

namespace litehrnet::plan_persistent {

template cudaError_t launch_kernel<float>(const void*, int, const LaunchShape&, cudaStream_t);

}  // namespace litehrnet::plan_persistent
