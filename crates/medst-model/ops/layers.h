// What layers with a backward pass of their own share.

#pragma once

#include <ATen/ATen.h>

#include "int8.h"
#include "product.h"

namespace medst {

// Rows of a tensor `[…, width]`.
inline at::Tensor rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// The precision in which a layer multiplies is that of its weight; tokens and norms may be of a
// higher one.
inline at::Tensor in_precision_of(const at::Tensor& weight, const at::Tensor& x) { return x.to(type_of(weight)); }

// Whether cheap states are kept all the same: a GPU has more memory than time for them, a CPU the
// other way round (docs/performance.md).
inline bool keeps_cheap_states(const at::Tensor& x) { return !x.device().is_cpu(); }

struct Normalised {
  at::Tensor value, mean, deviation;
};

inline Normalised normalise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon) {
  auto [value, mean, deviation] = at::native_layer_norm(x, weight.sizes(), weight, bias, epsilon);
  return {value, mean, deviation};
}

// The gradients of a layer norm by tokens, weight and bias.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> norm_backward(const at::Tensor& gradient, const at::Tensor& x, const Normalised& moments,
                                                               const at::Tensor& weight, const at::Tensor& bias) {
  return at::native_layer_norm_backward(gradient, x, weight.sizes(), moments.mean, moments.deviation, weight, bias, {true, true, true});
}

// Adds to a sum, which may still be undefined.
inline void accumulate(at::Tensor& sum, const at::Tensor& more) {
  if (sum.defined()) {
    sum.add_(more);
  } else {
    sum = more;
  }
}

// Adds `a · b`.
inline void accumulate_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  // On a GPU the product itself can add.
  if (sum.defined() && !a.device().is_cpu()) {
    sum.addmm_(a, b);
  } else {
    accumulate(sum, product(a, b));
  }
}

}  // namespace medst
