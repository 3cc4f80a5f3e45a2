// What the functions that Rust calls return.

#pragma once

#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace medst {

// A copy of a message, which the caller frees. Without memory for it the process ends, as Rust ends
// it in this case, because null would mean success.
inline char* copy_message(const char* message) {
  char* copy = strdup(message);
  if (copy == nullptr) {
    std::fprintf(stderr, "out of memory for this error: %s\n", message);
    std::abort();
  }
  return copy;
}

// Runs a function; returns null, or the message of what it throws, which the caller frees. No C++
// exception must reach Rust.
template <typename F>
char* capture_error(F run) {
  try {
    run();
  } catch (const std::exception& exception) {
    return copy_message(exception.what());
  } catch (...) {
    return copy_message("an exception that is not a std::exception");
  }
  return nullptr;
}

// What a function makes; where it throws, returns null and the message, which the caller frees.
template <typename F>
at::Tensor* guarded(char** error, F run) {
  at::Tensor* made = nullptr;
  *error = capture_error([&] { made = new at::Tensor(run()); });
  return made;
}

}  // namespace medst
