// Matrix products by the library that is fastest for the device and type.
#pragma once

#include <ATen/ATen.h>

namespace medst {

// `x · weightᵀ + bias`: x `[…, K]`, weight `[N, K]` (both of any strides), bias `[N]` or undefined;
// outside of any tape.
at::Tensor affine(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// `gelu(x · weightᵀ + bias)`, exact.
at::Tensor affine_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// `a · b` of two matrices.
inline at::Tensor product(const at::Tensor& a, const at::Tensor& b) { return affine(a, b.t(), {}); }

}  // namespace medst
