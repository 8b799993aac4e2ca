// Writes JSON text, value by value.
#pragma once

#include <cstdint>
#include <string>

#include "emulator/language.h"

namespace emulator {

class Json {
 public:
  Json& begin_object() { return open('{'); }
  Json& end_object() { return close('}'); }
  Json& begin_array() { return open('['); }
  Json& end_array() { return close(']'); }

  Json& key(const char* name) {
    value(std::string(name));
    text_ += ':';
    first_ = true;
    return *this;
  }

  Json& value(const std::string& string) {
    separate();
    text_ += '"';
    for (const char c : string) {
      if (c == '"' || c == '\\') text_ += '\\';
      text_ += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
    text_ += '"';
    return *this;
  }

  Json& value(std::uint64_t number) {
    separate();
    text_ += std::to_string(number);
    return *this;
  }

  Json& value(bool truth) {
    separate();
    text_ += truth ? "true" : "false";
    return *this;
  }

  Json& value(uint3 v) {
    begin_array();
    value(std::uint64_t{v.x}).value(std::uint64_t{v.y}).value(std::uint64_t{v.z});
    return end_array();
  }

  template <class T>
  Json& member(const char* name, const T& content) {
    key(name);
    return value(content);
  }

  const std::string& text() const { return text_; }

 private:
  void separate() {
    if (!first_) text_ += ',';
    first_ = false;
  }
  Json& open(char bracket) {
    separate();
    text_ += bracket;
    first_ = true;
    return *this;
  }
  Json& close(char bracket) {
    text_ += bracket;
    first_ = false;
    return *this;
  }

  std::string text_;
  bool first_ = true;
};

}  // namespace emulator
