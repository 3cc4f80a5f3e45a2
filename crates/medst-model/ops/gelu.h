// The exact GELU and its gradient (gelu.cpp).

#pragma once

#include <ATen/ATen.h>

#include <utility>

namespace medst {

// x·Φ(x), of any shape.
at::Tensor gelu(const at::Tensor& units);

// The activated units again, and their `gradient` taken back to the units. Takes `gradient` over: nobody else may hold it.
std::pair<at::Tensor, at::Tensor> gelu_and_pull(const at::Tensor& units, at::Tensor gradient);

}  // namespace medst
