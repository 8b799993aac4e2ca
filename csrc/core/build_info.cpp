#include "core/build_info.h"

#include <sstream>

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
  json << ", \"cuda_architectures\": []}";  // no CUDA sources yet
  return json.str();
}

}  // namespace litehrnet
