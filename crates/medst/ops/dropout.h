// Dropout by place: what dropout.cpp and the GPU's kernel of it share.

#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace medst {

struct Drop {
  int64_t place;       // in the encoder
  double probability;

  // Units go whose 24 bits are below this.
  uint32_t limit() const { return uint32_t(probability * double(1 << 24)); }
  // Of those that stay.
  double scale() const { return 1.0 / (1.0 - double(limit()) / double(1 << 24)); }
};

// Lines of `width` units of a tensor `[B, …, tokens, units]`; in a report, line `head·2³² + token`, whatever the batch is padded to.
struct Lines {
  int64_t width, tokens, of_row, all;

  explicit Lines(const at::Tensor& x) : width(x.size(-1)), tokens(x.dim() > 1 ? x.size(-2) : 1) {
    const bool empty = x.numel() == 0;
    of_row = empty ? 0 : x.numel() / x.size(0) / width, all = empty ? 0 : x.numel() / width;
  }
};

// By the engine's operations, on any device: in two dozen passes over memory.
at::Tensor drop_by_engine(const at::Tensor& x, const at::Tensor& seeds, const Drop& rule);

}  // namespace medst
