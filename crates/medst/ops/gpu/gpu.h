// Kernels of our own on a GPU (kernels.cu), mostly for models in sixteen bits. Each is tried on the card before it is used for the first time; where it does
// not give what the engine's operations give, those are used, and a line on standard error says so. With MEDST_GPU_KERNELS=0 they are never used, with 1
// it is an error where they cannot be.

#pragma once

#include <ATen/ATen.h>

#include <utility>

#include "../dropout.h"

namespace medst::gpu {

// Whether `norm` and `pull_norm` take float32 rows `x`, `[…, width]`, to a product in `type`.
bool fit_norm(const at::Tensor& x, at::ScalarType type);

// Whether `pull_gelu` takes these, `[rows, columns]`.
bool fit_gelu(const at::Tensor& units);

// Whether `drop` takes this.
bool fit_drop(const at::Tensor& x);

// The width of rows in whose name kernels are compiled for which it does not matter.
constexpr int64_t kAnyWidth = 128;

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

// Rows that `pull_norm` takes at once; more go in turns.
int64_t rows_at_once(const at::Tensor& on, int64_t width, at::ScalarType type);

// The gradient of the exact GELU, `[rows, columns]`, in place; returns its columns' sums.
at::Tensor pull_gelu(const at::Tensor& units, const at::Tensor& gradient);

// Dropout (dropout.h) of `x` without gaps.
at::Tensor drop(const at::Tensor& x, const at::Tensor& seeds, const Drop& rule);

}  // namespace medst::gpu
