// What the functions that Rust calls return.

#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <exception>

namespace medst {

// Runs a function; where it throws, returns null and the message, which the caller frees.
template <typename F>
at::Tensor* guarded(char** error, F run) {
  try {
    return new at::Tensor(run());
  } catch (const std::exception& exception) {
    *error = strdup(exception.what());
  }
  return nullptr;
}

}  // namespace medst
