// The build information is one JSON object with the version that CMake was told. Python tests parse it in full.
#include "core/build_info.h"

#include <cstdio>
#include <string>

int main() {
  const std::string info = litehrnet::build_info();
  int failures = 0;
  for (const char* part : {"{\"version\": \"", "\"compiler\": \"", "\"cxx_standard\": 201703", "\"cuda_version\": null", "\"cuda_architectures\": []}"}) {
    if (info.find(part) == std::string::npos) {
      std::printf("build_info: expected %s in %s\n", part, info.c_str());
      ++failures;
    }
  }
  if (info.find("\"version\": \"\"") != std::string::npos) {
    std::printf("build_info: expected a version, got none in %s\n", info.c_str());
    ++failures;
  }
  return failures == 0 ? 0 : 1;
}
