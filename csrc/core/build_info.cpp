#include "core/build_info.h"

#include <sstream>

#include "core/cpu_capability.h"

// Which build this is comes from setup.py or CMakeLists.txt; without CUDA the two are not defined.
#ifndef LITEHRNET_CUDA_ARCHITECTURES
#define LITEHRNET_CUDA_ARCHITECTURES ""
#endif

namespace litehrnet {

std::string build_info() {
  std::ostringstream json;
  json << "{\"version\": \"" << LITEHRNET_VERSION << "\"";
#if defined(__clang__)
  json << ", \"compiler\": \"clang " << __clang_major__ << '.' << __clang_minor__ << '.' << __clang_patchlevel__ << "\"";
#else
  json << ", \"compiler\": \"g++ " << __GNUC__ << '.' << __GNUC_MINOR__ << '.' << __GNUC_PATCHLEVEL__ << "\"";
#endif
  json << ", \"cxx_standard\": " << __cplusplus;
#if defined(NDEBUG)
  json << ", \"debug\": false";
#else
  json << ", \"debug\": true";
#endif
  json << ", \"cpu_capability\": \"" << name_of(cpu_capability()) << "\"";
#if defined(LITEHRNET_CUDA_VERSION)
  json << ", \"cuda_version\": \"" << LITEHRNET_CUDA_VERSION << "\"";
#else
  json << ", \"cuda_version\": null";
#endif
  json << ", \"cuda_architectures\": [";
  std::istringstream architectures(LITEHRNET_CUDA_ARCHITECTURES);  // separated by blanks
  const char* separator = "";
  for (std::string name; architectures >> name; separator = ", ") json << separator << '"' << name << '"';
  json << "]}";
  return json.str();
}

}  // namespace litehrnet
