// Multi-head self-attention on stacked queries, keys and values, outside of any tape
// (attention.cpp).

#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <vector>

namespace medst {

struct Attended {
  at::Tensor result;             // `[B, N, H]`
  std::vector<at::Tensor> kept;  // for the gradient
  int64_t heads = 0;

  using Saved = ska::flat_hash_map<std::string, at::IValue>;

  // The kept tensors may be on a tape of their own, which must not be mixed with the tape of the
  // function that saves them. So they are stored where autograd does not look.
  void save(Saved& data, const std::string& name) {
    data[name] = kept;
    data[name + ".heads"] = heads;
  }

  // Call it once: the memory is freed with the returned value.
  static Attended take(Saved& data, const std::string& name) {
    Attended own;
    own.kept = data[name].toTensorVector();
    own.heads = data[name + ".heads"].toInt();
    data.erase(name);
    return own;
  }
};

// * qkv: `[B, N, 3H]`.
// * keys: `[B, 1, 1, N]` bool, true where a key exists; absent where all do.
// * tape: whether `attention_backward` will be called.
Attended attend(const at::Tensor& qkv, int64_t heads, const std::optional<at::Tensor>& keys, bool tape);

// The gradient by `qkv`, `[B, N, 3H]` without gaps. Once for each `attend`.
at::Tensor attention_backward(const Attended& attended, const at::Tensor& grad_result);

}  // namespace medst
