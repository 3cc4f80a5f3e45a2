// Layers whose backward pass computes cheap intermediate states again instead of keeping them.
//
// libtorch's tape keeps the input of every operation. In a transformer two of those inputs are
// cheap functions of values that are kept anyway: the normalised tokens (from the tokens) and the
// activated units (from the units before the activation). Together they are 40 % of what a block
// keeps. On a CPU the functions here keep neither. On a GPU, where time is determined by passes
// over memory, they keep both (`keeps_cheap_states`). Results and gradients are those of the plain
// layers.
//
// Without a tape (in inference) nothing is kept, and the activation is a part of the product.
//
// Called from src/model/layers.rs. Tensors come and go as pointers to at::Tensor, as in the
// bindings of `tch`.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <vector>

#include "gelu.h"
#include "guarded.h"
#include "layers.h"
#include "tf32.h"

using at::Tensor;
using namespace medst;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// `x` layer-normalised, in the precision of `weight`; the moments too.
Normalised normalised_for(const Tensor& weight, const Tensor& x, const Tensor& norm_weight, const Tensor& norm_bias, double epsilon) {
  auto own = normalise(x, norm_weight, norm_bias, epsilon);
  own.value = in_precision_of(weight, own.value);
  return own;
}

// `contract(gelu(expand(x)))`; where `norm_weight` is defined,
// `x + contract(gelu(expand(norm(x))))`.
//
// Keeps the tokens and the units before the activation, and their functions if
// `keeps_cheap_states`.
struct Mlp : Function<Mlp> {
  static Tensor forward(AutogradContext* context, const Tensor& given, const std::optional<Tensor>& norm_weight,
                        const std::optional<Tensor>& norm_bias, const Tensor& expand, const Tensor& expand_bias,
                        const Tensor& contract, const Tensor& contract_bias, double epsilon, bool tape) {
    auto x = given.contiguous();
    auto past = [&](const Tensor& change) { return norm_weight ? at::add(x, change) : change; };
    Normalised normalised;
    if (norm_weight) {
      normalised = normalised_for(expand, x, *norm_weight, *norm_bias, epsilon);
    } else {
      normalised.value = in_precision_of(expand, x);
    }
    if (!tape) return past(affine(affine_gelu(normalised.value, expand, expand_bias), contract, contract_bias));
    auto units = affine(normalised.value, expand, expand_bias);
    const bool keeps = keeps_cheap_states(x);
    if (!keeps) normalised.value.reset();
    auto activated = medst::gelu(units);
    auto result = past(affine(activated, contract, contract_bias));
    if (!keeps) activated.reset();
    context->saved_data["epsilon"] = epsilon;
    context->save_for_backward(
        {x, normalised.mean, normalised.deviation, norm_weight.value_or(Tensor()), norm_bias.value_or(Tensor()), expand,
         contract, units, normalised.value, activated});
    return result;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto x = saved[0], norm_weight = saved[3], norm_bias = saved[4];
    auto expand = saved[5], contract = saved[6], units = rows(saved[7]), activated = saved[9];
    Normalised normalised{saved[8], saved[1], saved[2]};
    saved.clear();
    auto gradient = in_precision_of(contract, rows(gradients[0]));
    auto grad_units = product(gradient, contract);
    if (activated.defined()) {
      activated = rows(activated);
      grad_units = at::gelu_backward(grad_units, units);
    } else {
      std::tie(activated, grad_units) = medst::gelu_and_backward(units, std::move(grad_units));
    }
    units.reset();
    auto grad_contract = product(gradient.t(), activated);
    activated.reset();
    auto grad_contract_bias = gradient.sum(0);
    auto grad_expand_bias = grad_units.sum(0);
    Tensor grad_x, grad_norm_weight, grad_norm_bias, grad_expand;
    if (!normalised.value.defined()) {
      auto epsilon = context->saved_data["epsilon"].toDouble();
      normalised.value = norm_weight.defined() ? normalised_for(expand, x, norm_weight, norm_bias, epsilon).value : in_precision_of(expand, x);
    }
    grad_expand = product(grad_units.t(), rows(normalised.value));
    normalised.value.reset();
    grad_x = in_precision_of(x, product(grad_units, expand).view_as(x));
    if (norm_weight.defined()) {
      std::tie(grad_x, grad_norm_weight, grad_norm_bias) = norm_backward(grad_x, x, normalised, norm_weight, norm_bias);
      grad_x.add_(gradients[0]);
    }
    return {grad_x, grad_norm_weight, grad_norm_bias, grad_expand, grad_expand_bias, grad_contract, grad_contract_bias, Tensor(), Tensor()};
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
    const Tf32 while_here(x);
    Tensor grad_x;
    if (context->needs_input_grad(0)) {
      grad_x = product(gradient, weight).view_as(x).to(at::ScalarType(context->saved_data["precision"].toInt()));
    }
    return {grad_x, product(gradient.t(), rows(x)), gradient.sum(0)};
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

}
