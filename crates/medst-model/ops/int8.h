// Products in eight bits, for inference on a CPU.

#pragma once

#include <ATen/ATen.h>

namespace medst {

// Whether a weight was packed by `medst_int8_pack`. Its bias is then `[2, N]`: the bias, and the
// scale of each row of the weight.
inline bool is_int8(const at::Tensor& weight) { return weight.is_mkldnn(); }

// The type that a layer with this weight computes in: what its input is converted to.
inline at::ScalarType type_of(const at::Tensor& weight) { return is_int8(weight) ? at::kFloat : weight.scalar_type(); }

// `x · weightᵀ + bias` for a packed weight, followed by the exact GELU if `gelu`. `x` is float32,
// `[…, K]`; the result `[…, N]`.
at::Tensor affine_int8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool gelu);

}  // namespace medst
