// Products in eight bits, for inference on a CPU: four times as many multiplications per
// instruction as float32 where the processor has VNNI. A weight is rounded to 255 levels per row
// (output), once; an input is rounded to 255 levels per row (token) at each product, by the largest
// value of that token, so no calibration data are needed and outliers in one token do not coarsen
// others. Sums are exact (32 bits); scales and biases are applied in float32.
//
// The product is oneDNN's, which libtorch registers for compiled graphs; here it is called by name,
// as in product.cpp.

#include "int8.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "gelu.h"
#include "guarded.h"
#include "vector.h"

namespace medst {
namespace {

using at::Tensor;

using Pack = Tensor(Tensor, std::optional<c10::List<int64_t>>);
using Product = Tensor(Tensor, double, int64_t, Tensor, Tensor, Tensor, std::optional<Tensor>, double, int64_t, std::optional<at::ScalarType>,
                       std::string_view, c10::List<std::optional<at::Scalar>>, std::string_view);

template <typename Signature>
c10::TypedOperatorHandle<Signature> operation(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

// Unsigned inputs are what VNNI multiplies signed weights by; 128 is their zero.
constexpr int kZero = 128;

// Rounds a row to [1, 255]; returns the width of a step.
FOR_EVERY_VECTOR_UNIT float round_row(uint8_t* __restrict out, const float* __restrict x, int64_t count) {
  // Without their sign, floats are ordered like the integers of the same bits. The compiler may
  // vectorise the largest integer, but not the largest float, which need not be associative.
  uint32_t most = 0;
  for (int64_t n = 0; n < count; n++) {
    uint32_t bits;
    std::memcpy(&bits, x + n, sizeof bits);
    bits &= 0x7fffffff;
    most = bits > most ? bits : most;
  }
  float largest;
  std::memcpy(&largest, &most, sizeof largest);
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  for (int64_t n = 0; n < count; n++) out[n] = uint8_t(int32_t(x[n] * inverse + (kZero + 0.5f)));
  return largest / 127.0f;
}

FOR_EVERY_VECTOR_UNIT void scale_row(float* __restrict y, float scale, const float* __restrict bias, int64_t count) {
  for (int64_t n = 0; n < count; n++) y[n] = y[n] * scale + bias[n];
}

}  // namespace

Tensor affine_int8(const Tensor& given, const Tensor& weight, const Tensor& bias_and_scales, bool with_gelu) {
  const auto x = given.contiguous();
  const int64_t inputs = x.size(-1), count = x.numel() / inputs, outputs = bias_and_scales.size(1);
  auto shape = x.sizes().vec();
  shape.back() = outputs;
  if (count == 0) return at::empty(shape, x.options());
  auto rounded = at::empty({count, inputs}, x.options().dtype(at::kByte));
  auto steps = at::empty({count}, x.options());
  const int64_t grain = std::max<int64_t>(1, 16384 / inputs);
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      steps.data_ptr<float>()[row] = round_row(rounded.data_ptr<uint8_t>() + row * inputs, x.data_ptr<float>() + row * inputs, inputs);
    }
  });
  static const auto product = operation<Product>("onednn::qlinear_pointwise", "");
  const auto bias = bias_and_scales.select(0, 0), scales = bias_and_scales.select(0, 1);
  auto zeros = at::zeros({outputs}, x.options().dtype(at::kLong));
  auto y = product.call(rounded, 1.0, kZero, weight, scales, zeros, std::nullopt, 1.0, 0, at::kFloat, "none", c10::List<std::optional<at::Scalar>>(), "");
  at::parallel_for(0, count, std::max<int64_t>(1, 16384 / outputs), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      scale_row(y.data_ptr<float>() + row * outputs, steps.data_ptr<float>()[row], bias.data_ptr<float>(), outputs);
    }
  });
  return (with_gelu ? medst::gelu(y) : y).view(shape);
}

}  // namespace medst

extern "C" {

// Packs `weight`, `[N, K]` float32 without a gradient, and joins `bias`, `[N]`, with its scales:
// `results` gets the packed weight and `[2, N]`.
char* medst_int8_pack(const at::Tensor* weight, const at::Tensor* bias, at::Tensor** results) {
  using namespace medst;
  return capture_error([&] {
    static const auto pack = operation<Pack>("onednn::qlinear_prepack", "");
    auto scales = std::get<0>(weight->abs().max(1)).div(127).clamp_min(1e-30);
    auto rounded = weight->div(scales.unsqueeze(1)).round().to(at::kChar);
    results[0] = new at::Tensor(pack.call(rounded, std::nullopt));
    results[1] = new at::Tensor(at::stack({*bias, scales}));
  });
}

}
