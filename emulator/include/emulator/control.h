// What tests say to the emulator, and what they hear from it. Each emulated library has an emulator of its own.
#pragma once

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
extern "C" {

// seed 0: threads and blocks run in natural order; 1: in reverse; others: in random order, the same for the same seed.
// check: memory checks, which need an instrumented build. statistics: count memory traffic, which needs one too.
void emulator_configure(uint64_t seed, int check, int statistics);

// The device's number of multiprocessors, which bounds cooperative launches; 4 in the beginning.
void emulator_set_multiprocessors(int count);

// Global memory that kernels may use. Once a buffer is registered, access to any other memory is an error.
void emulator_register_buffer(const void* address, size_t bytes, const char* name, int initialised);
void emulator_unregister_buffer(const void* address);

// Forgets buffers, reports and launches; the configuration stays.
void emulator_reset(void);

uint64_t emulator_error_count(void);  // reports, each kind of mistake at each place once

// JSON arrays; valid until the next call of the same function.
const char* emulator_errors(void);
const char* emulator_launches(void);
}
#pragma GCC visibility pop
