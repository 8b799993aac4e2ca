#include "emulator/control.h"

#include <string>

#include "launch_log.h"
#include "memory_checks.h"
#include "reports.h"
#include "settings.h"

using namespace emulator;

using Lock = std::lock_guard<std::mutex>;

extern "C" {

void emulator_configure(uint64_t seed, int check, int statistics) {
  const Lock lock(one_at_a_time());
  settings().seed = seed;
  settings().check = check != 0;
  settings().statistics = statistics != 0;
}

void emulator_set_multiprocessors(int count) {
  const Lock lock(one_at_a_time());
  settings().multiprocessors = count;
}

void emulator_register_buffer(const void* address, size_t bytes, const char* name, int initialised) {
  const Lock lock(one_at_a_time());
  memory_checks().register_buffer(reinterpret_cast<std::uintptr_t>(address), bytes, name, initialised != 0);
}

void emulator_unregister_buffer(const void* address) {
  const Lock lock(one_at_a_time());
  memory_checks().unregister_buffer(reinterpret_cast<std::uintptr_t>(address));
}

void emulator_reset() {
  const Lock lock(one_at_a_time());
  memory_checks().clear();
  clear_reports();
  clear_launches();
}

uint64_t emulator_error_count() {
  const Lock lock(one_at_a_time());
  return reports().size();
}

const char* emulator_errors() {
  const Lock lock(one_at_a_time());
  static std::string text;
  text = reports_json();
  return text.c_str();
}

const char* emulator_launches() {
  const Lock lock(one_at_a_time());
  static std::string text;
  text = launches_json();
  return text.c_str();
}
}
