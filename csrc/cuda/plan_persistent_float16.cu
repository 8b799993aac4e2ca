// The launch for all steps of a plan in fp16.
#include "cuda/plan_persistent_kernel.cuh"

namespace litehrnet::plan_persistent {

template cudaError_t launch_kernel<__half>(const void*, int, const LaunchShape&, cudaStream_t);

}  // namespace litehrnet::plan_persistent
