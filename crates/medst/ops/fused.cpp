// Layers whose backward pass computes cheap intermediate states again instead of keeping them.
//
// libtorch's tape keeps the input of every operation. In a transformer two of those inputs are cheap functions of what is kept
// anyway: the normalised tokens (from the tokens) and the activated units (from the units before the activation). Together they
// are 40 % of what a block keeps. The functions here keep neither; their results and gradients are those of the plain layers.
//
// Without a tape (in inference) nothing is kept, and the activation is a part of the product.
//
// Called from src/model/fused.rs. Tensors come and go as pointers to at::Tensor, as in the bindings of `tch`.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <vector>

#include "gelu.h"
#include "guarded.h"
#include "product.h"

using at::Tensor;
using medst::affine;
using medst::affine_gelu;
using medst::guarded;
using medst::product;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// Rows of a tensor `[…, width]`.
Tensor rows(const Tensor& x) { return x.reshape({-1, x.size(-1)}); }

struct Normalised {
  Tensor value, mean, deviation;
};

// The precision in which a layer multiplies is that of its weight; tokens and norms may be of a higher one.
Tensor in_precision_of(const Tensor& weight, const Tensor& x) { return x.to(weight.scalar_type()); }

Normalised normalise(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  auto [value, mean, deviation] = at::native_layer_norm(x, weight.sizes(), weight, bias, epsilon);
  return {value, mean, deviation};
}

// `contract(gelu(expand(x)))`, on layer-normalised tokens where `norm_weight` is defined.
//
// Keeps the tokens and the units before the activation.
struct Mlp : Function<Mlp> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const std::optional<Tensor>& norm_weight,
                        const std::optional<Tensor>& norm_bias, const Tensor& expand, const Tensor& expand_bias,
                        const Tensor& contract, const Tensor& contract_bias, double epsilon, bool tape) {
    Normalised normalised{x, {}, {}};
    if (norm_weight) normalised = normalise(x, *norm_weight, *norm_bias, epsilon);
    normalised.value = in_precision_of(expand, normalised.value);
    if (!tape) return affine(affine_gelu(normalised.value, expand, expand_bias), contract, contract_bias);
    auto units = affine(normalised.value, expand, expand_bias);
    normalised.value.reset();
    auto result = affine(medst::gelu(units), contract, contract_bias);
    context->saved_data["epsilon"] = epsilon;
    context->save_for_backward(
        {x, normalised.mean, normalised.deviation, norm_weight.value_or(Tensor()), norm_bias.value_or(Tensor()), expand,
         contract, units});
    return result;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto x = saved[0], mean = saved[1], deviation = saved[2], norm_weight = saved[3], norm_bias = saved[4];
    auto expand = saved[5], contract = saved[6], units = rows(saved[7]);
    saved.clear();
    auto gradient = rows(gradients[0]);
    auto [activated, of_units] = medst::gelu_and_pull(units, product(gradient, contract));
    units.reset();
    auto of_contract = product(gradient.t(), activated);
    activated.reset();
    auto of_contract_bias = gradient.sum(0);
    auto of_expand_bias = of_units.sum(0);
    Tensor of_x, of_norm_weight, of_norm_bias, of_expand;
    if (norm_weight.defined()) {
      auto epsilon = context->saved_data["epsilon"].toDouble();
      auto normalised = normalise(x, norm_weight, norm_bias, epsilon).value;
      of_expand = product(of_units.t(), rows(in_precision_of(expand, normalised)));
      auto of_normalised = in_precision_of(x, product(of_units, expand).view_as(x));
      std::tie(of_x, of_norm_weight, of_norm_bias) = at::native_layer_norm_backward(
          of_normalised, x, norm_weight.sizes(), mean, deviation, norm_weight, norm_bias, {true, true, true});
    } else {
      of_expand = product(of_units.t(), rows(in_precision_of(expand, x)));
      of_x = in_precision_of(x, product(of_units, expand).view_as(x));
    }
    return {of_x, of_norm_weight, of_norm_bias, of_expand, of_expand_bias, of_contract, of_contract_bias, Tensor(), Tensor()};
  }
};

// `linear(norm(first))`, or of `norm(first)` and `norm(second)` joined along the tokens where `second` is defined.
//
// * first `[B, N, width]`, second `[B, M, width]`. Keeps both, and their moments.
struct NormLinear : Function<NormLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& first, const std::optional<Tensor>& second,
                        const Tensor& norm_weight,
                        const Tensor& norm_bias, const Tensor& weight, const Tensor& bias, double epsilon) {
    auto a = normalise(first, norm_weight, norm_bias, epsilon);
    Normalised b;
    Tensor joined = a.value;
    if (second) {
      b = normalise(*second, norm_weight, norm_bias, epsilon);
      joined = at::cat({a.value, b.value}, 1);
      a.value.reset();
      b.value.reset();
    }
    context->saved_data["epsilon"] = epsilon;
    context->save_for_backward(
        {first, second.value_or(Tensor()), norm_weight, norm_bias, weight, a.mean, a.deviation, b.mean, b.deviation});
    return affine(in_precision_of(weight, joined), weight, bias);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto first = saved[0], second = saved[1], norm_weight = saved[2], norm_bias = saved[3], weight = saved[4];
    auto epsilon = context->saved_data["epsilon"].toDouble();
    auto scaled = [&](const Tensor& x) { return normalise(x, norm_weight, norm_bias, epsilon).value; };
    auto gradient = rows(gradients[0]);
    auto joined = scaled(first);
    if (second.defined()) joined = at::cat({joined, scaled(second)}, 1);
    auto of_weight = product(gradient.t(), rows(in_precision_of(weight, joined)));
    joined.reset();
    auto of_bias = gradient.sum(0);
    auto of_normalised = in_precision_of(first, product(gradient, weight)).view({first.size(0), -1, first.size(2)});
    auto back = [&](const Tensor& of, const Tensor& x, const Tensor& mean, const Tensor& deviation) {
      return at::native_layer_norm_backward(of.contiguous(), x, norm_weight.sizes(), mean, deviation, norm_weight,
                                            norm_bias, {true, true, true});
    };
    auto tokens = first.size(1);
    auto [of_first, of_norm_weight, of_norm_bias] =
        back(of_normalised.narrow(1, 0, tokens), first, saved[5], saved[6]);
    Tensor of_second;
    if (second.defined()) {
      auto [of, more_weight, more_bias] =
          back(of_normalised.narrow(1, tokens, second.size(1)), second, saved[7], saved[8]);
      of_second = of;
      of_norm_weight = of_norm_weight + more_weight;
      of_norm_bias = of_norm_bias + more_bias;
    }
    return {of_first, of_second, of_norm_weight, of_norm_bias, of_weight, of_bias, Tensor()};
  }
};

// `x · weightᵀ + bias`: the plain layer.
struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    auto input = in_precision_of(weight, x);
    context->saved_data["precision"] = int64_t(x.scalar_type());
    context->save_for_backward({input, weight});
    return affine(input, weight, bias);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto x = saved[0], weight = saved[1], gradient = rows(gradients[0]);
    Tensor of_x;
    if (context->needs_input_grad(0)) {
      of_x = product(gradient, weight).view_as(x).to(at::ScalarType(context->saved_data["precision"].toInt()));
    }
    return {of_x, product(gradient.t(), rows(x)), gradient.sum(0)};
  }
};

std::optional<Tensor> optional(const Tensor* tensor) {
  return tensor ? std::optional<Tensor>(*tensor) : std::nullopt;
}

}  // namespace

extern "C" {

// Absent tensors are null.
Tensor* medst_mlp(const Tensor* x, const Tensor* norm_weight, const Tensor* norm_bias, const Tensor* expand,
                  const Tensor* expand_bias, const Tensor* contract, const Tensor* contract_bias, double epsilon,
                  char** error) {
  return guarded(error, [&] {
    return Mlp::apply(*x, optional(norm_weight), optional(norm_bias), *expand, *expand_bias, *contract,
                      *contract_bias, epsilon, at::GradMode::is_enabled());
  });
}

Tensor* medst_linear(const Tensor* x, const Tensor* weight, const Tensor* bias, char** error) {
  return guarded(error, [&] { return Linear::apply(*x, *weight, *bias); });
}

Tensor* medst_norm_linear(const Tensor* first, const Tensor* second, const Tensor* norm_weight,
                          const Tensor* norm_bias, const Tensor* weight, const Tensor* bias, double epsilon,
                          char** error) {
  return guarded(error, [&] {
    return NormLinear::apply(*first, optional(second), *norm_weight, *norm_bias, *weight, *bias, epsilon);
  });
}

}
