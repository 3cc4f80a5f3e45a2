// Kernels of our own on a GPU (kernels.cu), for models in sixteen bits. They are used where MEDST_GPU_KERNELS=1 asks for them: they have been compiled
// for a GPU and run on an emulation of one, not on a card (docs/performance.md).

#pragma once

#include <ATen/ATen.h>

#include <utility>

namespace medst::gpu {

// Whether they take float32 rows `x`, `[…, width]`, to a product in `type`.
bool fit(const at::Tensor& x, at::ScalarType type);

// Rows of tokens of which others are a part: token t of a row is token `offset + t` of a row of `pitch`.
struct Places {
  int64_t tokens, pitch, offset;
};

// Rows that lie one behind the other.
constexpr Places kTogether{1, 1, 0};

// The layer norm of `x`, `[…, width]` without gaps, into its places in `y`; means and deviations, `[rows]`, are written too.
void norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& y, Places places, const at::Tensor& means,
          const at::Tensor& deviations, double epsilon);

// Its gradient and what came past the layer, `beside`, into `of_x`; returns the gradients by weight and bias.
std::pair<at::Tensor, at::Tensor> pull_norm(const at::Tensor& of_y, Places places, const at::Tensor& x, const at::Tensor& means, const at::Tensor& deviations,
                                            const at::Tensor& weight, const at::Tensor& beside, const at::Tensor& of_x);

// The gradient of the exact GELU, `[rows, columns]`, in place; returns its columns' sums. `columns` must be a multiple of 4.
at::Tensor pull_gelu(const at::Tensor& units, const at::Tensor& gradient);

}  // namespace medst::gpu
