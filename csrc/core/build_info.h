#pragma once

#include <string>

namespace litehrnet {

// How this library was built, as a JSON object; `litehrnet env` prints it.
std::string build_info();

}  // namespace litehrnet
