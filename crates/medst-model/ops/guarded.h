// What the functions that Rust calls return.

#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <exception>

namespace medst {

// Runs a function; returns null, or where it throws the message, which the caller frees.
template <typename F>
char* told(F run) {
  try {
    run();
  } catch (const std::exception& exception) {
    return strdup(exception.what());
  }
  return nullptr;
}

// What a function makes; where it throws, returns null and the message, which the caller frees.
template <typename F>
at::Tensor* guarded(char** error, F run) {
  at::Tensor* made = nullptr;
  *error = told([&] { made = new at::Tensor(run()); });
  return made;
}

}  // namespace medst
