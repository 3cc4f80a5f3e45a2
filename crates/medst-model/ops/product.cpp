// libtorch multiplies float32 matrices with MKL on a CPU, which on AMD processors stays at AVX2.
// oneDNN, which libtorch also contains, uses whatever the processor has, and is faster at AVX2 too
// (docs/performance.md). Its product is registered as an operation for compiled graphs; here it is
// called by name.

#include "product.h"
#include "int8.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

namespace medst {
namespace {

using at::Tensor;

using Scalars = c10::List<std::optional<at::Scalar>>;
using Pointwise = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                         Scalars, std::optional<std::string_view>);

// `None` in a libtorch that was built without oneDNN.
const std::optional<c10::TypedOperatorHandle<Pointwise>>& one_dnn() {
  static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<Pointwise>> {
    auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!found) return std::nullopt;
    return found->typed<Pointwise>();
  }();
  return handle;
}

// Multiplications below which oneDNN's preparations cost more than they save.
constexpr double kWorthwhile = 4e6;

bool worthwhile(const Tensor& x, const Tensor& weight) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && one_dnn() &&
         double(x.numel()) * double(weight.size(0)) >= kWorthwhile;
}

// Contiguous rows or columns, as oneDNN's fast kernels need them: any other layout is left to a
// loop over values.
Tensor dense(const Tensor& matrix) {
  return matrix.is_contiguous() || matrix.t().is_contiguous() ? matrix : matrix.contiguous();
}

std::optional<Tensor> optional(const Tensor& tensor) {
  return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
}

}  // namespace

Tensor affine(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (is_int8(weight)) return affine_int8(x, weight, bias, false);
  // On a CPU libtorch multiplies float16 value by value. Summing products of rounded values in
  // float32 and then rounding is what a GPU computes.
  if (x.device().is_cpu() && x.scalar_type() == at::kHalf) {
    return affine(x.to(at::kFloat), weight.to(at::kFloat), bias.defined() ? bias.to(at::kFloat) : bias).to(at::kHalf);
  }
  if (worthwhile(x, weight)) return one_dnn()->call(x, dense(weight), optional(bias), "none", Scalars(), "");
  return at::linear(x, weight, optional(bias));
}

Tensor affine_gelu(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (is_int8(weight)) return affine_int8(x, weight, bias, true);
  if (worthwhile(x, weight)) return one_dnn()->call(x, dense(weight), optional(bias), "gelu", Scalars(), "none");
  return at::gelu(affine(x, weight, bias));
}

}  // namespace medst
