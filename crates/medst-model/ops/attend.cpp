// The first half of a transformer block, `x + projection(attention(qkv(norm(x))))`, on the tokens
// of one view, or of two views that attend to each other where a study has both.
//
// It is one function because its parts overlap: studies with both views are attended to as one
// sequence of tokens, those with one view as another. The tape of the plain layers would split and
// join whole states (in float32), where this function copies halves of them (in the precision of
// the products) to where they are needed. It keeps its input states, queries, keys and values, and
// the output of attention. Normalised tokens are computed again on a CPU and kept on a GPU
// (`keeps_cheap_states`).
//
// Called from src/model/layers.rs.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <vector>

#include "attention.h"
#include "guarded.h"
#include "layers.h"

using at::Tensor;
using namespace medst;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// Studies of a batch: `paired` with both views, which come first, and `single` ones; `tokens` and
// `others` of the two views.
struct Layout {
  int64_t paired, single, tokens, others;

  Layout(const Tensor& first, const Tensor& second)
      : paired(second.size(0)), single(first.size(0) - second.size(0)), tokens(first.size(1)), others(second.size(1)) {}

  // The tokens of one view of some studies: which studies, and the same tokens within the joined
  // rows.
  struct Piece {
    bool other;
    int64_t start, count;
    Tensor in_row;

    Tensor of(const Tensor& first, const Tensor& second) const { return (other ? second : first).narrow(0, start, count); }
  };

  std::vector<Piece> pieces(const std::vector<Tensor>& rows) const {
    std::vector<Piece> all;
    if (paired > 0) {
      all.push_back({false, 0, paired, rows[0].narrow(1, 0, tokens)});
      all.push_back({true, 0, paired, rows[0].narrow(1, tokens, others)});
    }
    if (single > 0) all.push_back({false, paired, single, rows.back()});
    return all;
  }

  // Rows of tokens that attend to each other: those of the studies with both views, then those of
  // the other studies. A group without studies is left out.
  std::vector<Tensor> join(const Tensor& first, const Tensor& second, at::ScalarType type) const {
    std::vector<Tensor> rows;
    if (paired > 0) {
      auto both = at::empty({paired, tokens + others, first.size(2)}, first.options().dtype(type));
      both.narrow(1, 0, tokens).copy_(first.narrow(0, 0, paired));
      both.narrow(1, tokens, others).copy_(second);
      rows.push_back(both);
    }
    if (single > 0) rows.push_back(first.narrow(0, paired, single).to(type));
    return rows;
  }

  // The inverse of `join`, into tensors of the views' type.
  std::pair<Tensor, Tensor> part(const Tensor& first, const Tensor& second, const std::vector<Tensor>& rows) const {
    // With a single view the rows are its tensor already.
    if (paired == 0 && single > 0) return {rows[0].to(first.scalar_type()), at::empty_like(second)};
    auto a = at::empty_like(first), b = at::empty_like(second);
    for (auto& piece : pieces(rows)) piece.of(a, b).copy_(piece.in_row);
    return {a, b};
  }
};

struct Norm {
  Tensor weight, bias;
  double epsilon;
};

// Normalised rows of tokens that attend to each other, in the precision of the product that
// follows; the moments of both views go to `a` and `b`.
std::vector<Tensor> normalised_rows(const Layout& layout, const Tensor& first, const Tensor& second, const Norm& norm, at::ScalarType type, Normalised& a,
                                    Normalised& b) {
  a = normalise(first, norm.weight, norm.bias, norm.epsilon), b = {second, {}, {}};
  if (layout.paired > 0) b = normalise(second, norm.weight, norm.bias, norm.epsilon);
  auto rows = layout.join(a.value, b.value, type);
  a.value.reset(), b.value.reset();
  return rows;
}

// Gradients of `normalised_rows` by both states and by the weights of the norm.
struct NormGradients {
  Tensor first, second, weight, bias;
};

// The way back, from gradients by those rows to those by the states; `past` are those of the
// states' own way past the layer.
NormGradients normalised_rows_backward(const Layout& layout, std::vector<Tensor> grad_rows, const Tensor& first, const Tensor& second, const Norm& norm, const Normalised& a,
                            const Normalised& b, const variable_list& past) {
  NormGradients grad;
  auto [grad_a, grad_b] = layout.part(first, second, grad_rows);
  grad_rows.clear();
  std::tie(grad.first, grad.weight, grad.bias) = norm_backward(grad_a, first, a, norm.weight, norm.bias);
  grad_a.reset();
  grad.first.add_(past[0]);
  grad.second = past[1];
  if (layout.paired > 0) {
    auto [grad_second, grad_weight, grad_bias] = norm_backward(grad_b, second, b, norm.weight, norm.bias);
    grad.second = grad_second.add_(past[1]);
    grad.weight = grad.weight + grad_weight, grad.bias = grad.bias + grad_bias;
  }
  return grad;
}

struct Attend : Function<Attend> {
  static variable_list forward(AutogradContext* context, const Tensor& given_first, const Tensor& given_second, const Tensor& norm_weight, const Tensor& norm_bias,
                               const Tensor& weight, const Tensor& bias, const Tensor& projection, const Tensor& projection_bias,
                               const std::optional<Tensor>& keys, int64_t heads, double epsilon, bool tape) {
    auto first = given_first.contiguous(), second = given_second.contiguous();
    const Layout layout(first, second);
    Normalised a, b;
    auto normalised = normalised_rows(layout, first, second, {norm_weight, norm_bias, epsilon}, type_of(weight), a, b);
    std::vector<Tensor> mixed, changes;
    for (size_t n = 0; n < normalised.size(); n++) {
      // Keys are given where every study has both views.
      auto attended = attend(affine(normalised[n], weight, bias), heads, keys, tape);
      if (!keeps_cheap_states(first)) normalised[n].reset();
      changes.push_back(affine(attended.result, projection, projection_bias));
      if (tape) attended.save(context->saved_data, "attention." + std::to_string(n));
      mixed.push_back(attended.result);
    }
    auto x = at::empty_like(first), y = at::empty_like(second);
    for (auto& piece : layout.pieces(changes)) {
      auto sum = piece.of(x, y);
      at::add_out(sum, piece.of(first, second), piece.in_row);
    }
    if (tape) {
      context->saved_data["epsilon"] = epsilon;
      variable_list kept{first, second, norm_weight, norm_bias, weight, projection, a.mean, a.deviation, b.mean, b.deviation};
      kept.insert(kept.end(), mixed.begin(), mixed.end());
      if (keeps_cheap_states(first)) kept.insert(kept.end(), normalised.begin(), normalised.end());
      context->save_for_backward(kept);
    }
    return {x, y};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto first = saved[0], second = saved[1], norm_weight = saved[2], norm_bias = saved[3], weight = saved[4], projection = saved[5];
    Normalised a{{}, saved[6], saved[7]}, b{{}, saved[8], saved[9]};
    const Norm norm{norm_weight, norm_bias, context->saved_data["epsilon"].toDouble()};
    const Layout layout(first, second);
    auto grad_changes = layout.join(gradients[0], gradients[1], weight.scalar_type());
    const size_t count = grad_changes.size();
    if (count == 0) {
      auto zeros = [](const Tensor& of) { return std::pair(at::zeros_like(of), at::zeros({of.size(0)}, of.options())); };
      auto [grad_weight, grad_bias] = zeros(weight);
      auto [grad_projection, grad_projection_bias] = zeros(projection);
      return {gradients[0], gradients[1], at::zeros_like(norm_weight), at::zeros_like(norm_bias), grad_weight, grad_bias, grad_projection, grad_projection_bias, {}, {}, {}, {}};
    }
    std::vector<Tensor> mixed(saved.begin() + 10, saved.begin() + 10 + long(count));
    std::vector<Tensor> normalised(saved.begin() + 10 + long(count), saved.end());
    saved.clear();
    Tensor grad_weight, grad_bias, grad_projection, grad_projection_bias;
    std::vector<Tensor> grad_qkv;
    for (size_t n = 0; n < count; n++) {
      auto gradient = rows(grad_changes[n]);
      accumulate_product(grad_projection, gradient.t(), rows(mixed[n]));
      accumulate(grad_projection_bias, gradient.sum(0));
      auto grad_mixed = product(gradient, projection).view_as(mixed[n]);
      grad_changes[n].reset(), mixed[n].reset();
      grad_qkv.push_back(attention_backward(Attended::take(context->saved_data, "attention." + std::to_string(n)), grad_mixed));
    }
    if (normalised.empty()) normalised = normalised_rows(layout, first, second, norm, weight.scalar_type(), a, b);
    std::vector<Tensor> grad_normalised;
    for (size_t n = 0; n < count; n++) {
      auto gradient = rows(grad_qkv[n]);
      accumulate_product(grad_weight, gradient.t(), rows(normalised[n]));
      accumulate(grad_bias, gradient.sum(0));
      grad_normalised.push_back(product(gradient, weight).view_as(normalised[n]));
      grad_qkv[n].reset(), normalised[n].reset();
    }
    auto grad = normalised_rows_backward(layout, std::move(grad_normalised), first, second, norm, a, b, gradients);
    return {grad.first, grad.second, grad.weight, grad.bias, grad_weight, grad_bias, grad_projection, grad_projection_bias, {}, {}, {}, {}};
  }
};

}  // namespace

// * first: `[B, N, H]`. * second: `[L, M, H]` of the first L of the B studies; L may be 0. * keys:
//   as in attention.h, only where L is B.
// Puts the two results into `results`; returns null, or a message that the caller frees.
extern "C" char* medst_attend(const Tensor* first, const Tensor* second, const Tensor* norm_weight, const Tensor* norm_bias, const Tensor* weight,
                              const Tensor* bias, const Tensor* projection, const Tensor* projection_bias, const Tensor* keys, int64_t heads,
                              double epsilon, Tensor** results) {
  return capture_error([&] {
    auto both = Attend::apply(*first, *second, *norm_weight, *norm_bias, *weight, *bias, *projection, *projection_bias,
                              keys ? std::optional<Tensor>(*keys) : std::nullopt, heads, epsilon, at::GradMode::is_enabled());
    for (size_t n = 0; n < 2; n++) results[n] = new Tensor(both[n]);
  });
}
