// The exact GELU and its gradient (gelu.cpp).

#pragma once

#include <ATen/ATen.h>

#include <utility>

namespace medst {

// x·Φ(x), of any shape.
at::Tensor gelu(const at::Tensor& units);

// Recomputes the activated units, and takes their `gradient` back to the units. May overwrite
// `gradient`: nothing else may hold it.
std::pair<at::Tensor, at::Tensor> gelu_and_backward(const at::Tensor& units, at::Tensor gradient);

}  // namespace medst
