// How a GPU multiplies float32 in backward passes (tf32.cpp).

#pragma once

#include <ATen/ATen.h>

namespace medst {

// While it exists, float32 products on the device of `x` may use factors with 10 bits after the
// point, like float16; sums stay float32. Only if a model in sixteen bits has allowed it. In a
// backward pass this adds no error to that of the sixteen bits (docs/performance.md). In a forward
// pass it would: projections remove what states have in common, and what remains would be rounding
// error.
class Tf32 {
 public:
  explicit Tf32(const at::Tensor& x);
  ~Tf32();
  Tf32(const Tf32&) = delete;

 private:
  bool before;
};

}  // namespace medst
