// PyTorch's fused AdamW, which the bindings of `tch` leave out: one pass over memory on a CPU, one
// kernel on a GPU.
//
// Called from src/train/optimizer.rs.

#include <ATen/ATen.h>
#include <ATen/ops/_fused_adamw.h>

#include <optional>
#include <vector>

#include "guarded.h"

extern "C" {

// Updates `count` tensors, outside of any tape. All are of one floating-point type; `step`, on the
// same device, counts the updates with this one; gradients are divided by `scale` first where it is
// not null. Returns null, or a message that the caller frees.
char* medst_adamw(at::Tensor* const* values, at::Tensor* const* gradients, at::Tensor* const* first,
                  at::Tensor* const* second, size_t count, const at::Tensor* step, const at::Tensor* scale, double rate,
                  double beta1, double beta2, double decay, double epsilon) {
  auto list = [&](at::Tensor* const* tensors) {
    std::vector<at::Tensor> all;
    for (size_t n = 0; n < count; n++) all.push_back(*tensors[n]);
    return all;
  };
  return medst::capture_error([&] {
    at::_fused_adamw_(list(values), list(gradients), list(first), list(second), {}, std::vector<at::Tensor>(count, *step),
                      rate, beta1, beta2, decay, epsilon, false, false,
                      scale ? std::optional<at::Tensor>(*scale) : std::nullopt, {});
  });
}

}
