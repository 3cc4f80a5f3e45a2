// How a GPU multiplies float32 in backward passes (tf32.cpp).

#pragma once

#include <ATen/ATen.h>

namespace medst {

// As long as it lives, products of float32 on the device of `x` may take factors with 10 bits after the point, as float16 has them; sums stay float32.
// Only where a model in sixteen bits has allowed it. In a backward pass that changes nothing that its sixteen bits have not (docs/performance.md); in a forward
// pass it would: projections take away what states have in common, and are left with the rounding.
class Tf32 {
 public:
  explicit Tf32(const at::Tensor& x);
  ~Tf32();
  Tf32(const Tf32&) = delete;

 private:
  bool before;
};

}  // namespace medst
