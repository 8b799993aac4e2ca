// Where a block's shared memory lies: the library's thread-local variables, and one buffer for the dynamic part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

struct Range {
  std::uintptr_t low = 0, high = 0;

  bool contains(std::uintptr_t address) const { return address >= low && address < high; }
  std::size_t size() const { return high - low; }
};

class SharedMemory {
 public:
  // Finds the variables as the calling host thread sees them, and keeps their contents until close().
  void open(std::size_t dynamic_bytes);
  void close();

  void fill_with_nan();  // a new block's memory has no value; 0xff in every byte is a NaN in all floating-point types
  std::vector<char> save() const;
  void restore(const std::vector<char>& contents);

  const Range& variables() const { return variables_; }
  const Range& dynamic() const { return dynamic_; }  // as far as this launch asked for it
  const Range& dynamic_area() const { return dynamic_area_; }
  const Range& module() const { return module_; }

 private:
  Range variables_, dynamic_, dynamic_area_, module_;
  std::vector<char> host_contents_;
};

}  // namespace emulator
