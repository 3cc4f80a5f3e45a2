// Multi-head self-attention and its gradient: custom code on a CPU with AVX-512, in float32, for
// heads of 64 values; otherwise libtorch's.
//
// On AMD processors libtorch's attention uses MKL, which is limited to AVX2 there, and it assembles
// the gradient of stacked queries, keys and values from three full-size tensors. Here both passes
// read and write the stacked tensor itself (docs/performance.md).
//
// As in FlashAttention (Dao et al., 2022), weights are not kept, but only the logarithm of each
// row's sum; the backward pass computes the weights again. The scores of a block of query rows with
// all keys fit into the second-level cache, so nothing has to be rescaled.
//
// Everything is one product, `tile`: up to 6 rows by 64 columns in registers.
//
// Called from src/model/layers.rs.

#include <ATen/ATen.h>
#include <ATen/native/TensorIterator.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "attention.h"
#include "guarded.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#include <immintrin.h>
#define HERE_IS_AVX512
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma")

namespace {

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Whole __attribute__((vector_size(64), aligned(4), may_alias));

constexpr int64_t kWide = 16;   // lanes
constexpr int64_t kHead = 64;   // values of a head
constexpr int64_t kRows = 6;    // of a tile: 6 × 4 sums of 16 lanes, of 32 registers
constexpr int64_t kBlock = 48;  // query rows at a time

inline Lanes& lanes(float* at) { return *reinterpret_cast<Lanes*>(at); }
inline const Lanes& lanes(const float* at) { return *reinterpret_cast<const Lanes*>(at); }

// A matrix whose element (row, column) is at `row * down + column * right`.
struct Matrix {
  const float* at;
  int64_t down, right;
};

// Rows of 64 columns of `c` become, or with `add` grow by, `a · b`; `b` has rows of 64 consecutive
// values, `ldb` apart.
template <int rows>
void tile(float* c, int64_t ldc, Matrix a, const float* b, int64_t ldb, int64_t steps, bool add) {
  Lanes sum[rows][4];
  for (int r = 0; r < rows; r++)
    for (int n = 0; n < 4; n++) sum[r][n] = add ? lanes(c + r * ldc + n * kWide) : Lanes{};
  for (int64_t k = 0; k < steps; k++) {
    Lanes right[4];
    for (int n = 0; n < 4; n++) right[n] = lanes(b + k * ldb + n * kWide);
    for (int r = 0; r < rows; r++) {
      Lanes left = _mm512_set1_ps(a.at[r * a.down + k * a.right]);
      for (int n = 0; n < 4; n++) sum[r][n] += left * right[n];
    }
  }
  for (int r = 0; r < rows; r++)
    for (int n = 0; n < 4; n++) lanes(c + r * ldc + n * kWide) = sum[r][n];
}

// As `tile`, of any number of rows.
void multiply(float* c, int64_t ldc, Matrix a, const float* b, int64_t ldb, int64_t rows, int64_t steps, bool add) {
  int64_t row = 0;
  auto left = [&] { return Matrix{a.at + row * a.down, a.down, a.right}; };
  for (; row + kRows <= rows; row += kRows) tile<kRows>(c + row * ldc, ldc, left(), b, ldb, steps, add);
  switch (rows - row) {
    case 1: tile<1>(c + row * ldc, ldc, left(), b, ldb, steps, add); break;
    case 2: tile<2>(c + row * ldc, ldc, left(), b, ldb, steps, add); break;
    case 3: tile<3>(c + row * ldc, ldc, left(), b, ldb, steps, add); break;
    case 4: tile<4>(c + row * ldc, ldc, left(), b, ldb, steps, add); break;
    case 5: tile<5>(c + row * ldc, ldc, left(), b, ldb, steps, add); break;
    default: break;
  }
}

// e^y for y ≤ 0, two units in the last place; e^−87 below −87.
inline Lanes exponential(Lanes y) {
  Lanes least = Lanes{} - 87.0f;
  y = y < least ? least : y;
  Lanes round = Lanes{} + 12582912.0f;  // 1.5·2²³: adding it leaves a whole number in the low bits
  Lanes shifted = y * 1.44269504f + round;
  Lanes whole = shifted - round;
  Lanes rest = y - whole * 0.693145752f - whole * 1.42860677e-6f;
  Lanes power = rest * 0.00138888889f + 0.00833333333f;
  power = power * rest + 0.0416666667f;
  power = power * rest + 0.166666667f;
  power = power * rest + 0.5f;
  power = power * rest + 1.0f;
  power = power * rest + 1.0f;
  Whole bits = (((Whole)shifted) << 23) + 0x3f800000;
  return power * (Lanes)bits;
}

float total(const Lanes& x) {
  float sum = 0;
  for (int n = 0; n < kWide; n++) sum += x[n];
  return sum;
}

float largest(const Lanes& x) {
  float most = x[0];
  for (int n = 1; n < kWide; n++) most = std::max(most, x[n]);
  return most;
}

// Stacked queries, keys and values `[B, N, 3, heads, 64]`, or the gradients by them.
struct Stacked {
  int64_t tokens, heads;

  int64_t row() const { return 3 * heads * kHead; }
  int64_t padded() const { return (tokens + kHead - 1) / kHead * kHead; }
  // Where a head's queries (part 0), keys (1) or values (2) begin.
  int64_t begin(int64_t study, int64_t head, int64_t part) const { return study * tokens * row() + (part * heads + head) * kHead; }
  // The same for the result, `[B, N, heads, 64]`.
  int64_t begin_result(int64_t study, int64_t head) const { return (study * tokens * heads + head) * kHead; }
};

// Keys or values as columns, `[64, padded]`; columns after the last token are zero.
void turn(std::vector<float>& out, const float* from, const Stacked& shape, float scale) {
  const int64_t padded = shape.padded(), row = shape.row();
  out.assign(size_t(kHead * padded), 0.0f);
  for (int64_t token = 0; token < shape.tokens; token += kWide) {
    const int64_t here = std::min(kWide, shape.tokens - token);
    for (int64_t value = 0; value < kHead; value++)
      for (int64_t n = 0; n < here; n++) out[size_t(value * padded + token + n)] = from[(token + n) * row + value] * scale;
  }
}

// `rows` rows of `a`, 64 values each, with all columns of `turned`.
void scores(std::vector<float>& out, Matrix a, const std::vector<float>& turned, int64_t padded, int64_t rows) {
  for (int64_t column = 0; column < padded; column += kHead) multiply(out.data() + column, padded, a, turned.data() + column, padded, rows, kHead, false);
}

struct Scratch {
  std::vector<float> keys, values, weights, others;
};

// What attention gives for one head of one study, and the logarithms of its rows' sums.
void attend_one(const float* qkv, float* result, float* logarithms, const Stacked& shape, int64_t study, int64_t head, Scratch& own) {
  const int64_t tokens = shape.tokens, row = shape.row(), padded = shape.padded(), width = shape.heads * kHead;
  const float* query = qkv + shape.begin(study, head, 0);
  const float* value = qkv + shape.begin(study, head, 2);
  result += shape.begin_result(study, head);
  logarithms += (study * shape.heads + head) * tokens;
  turn(own.keys, qkv + shape.begin(study, head, 1), shape, 1.0f / std::sqrt(float(kHead)));
  own.weights.resize(size_t(kBlock * padded));
  for (int64_t first = 0; first < tokens; first += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - first);
    scores(own.weights, {query + first * row, row, 1}, own.keys, padded, rows);
    float inverse[kBlock];
    for (int64_t r = 0; r < rows; r++) {
      float* weights = own.weights.data() + r * padded;
      std::fill(weights + tokens, weights + padded, -std::numeric_limits<float>::max());
      Lanes most = lanes(weights);
      for (int64_t n = kWide; n < padded; n += kWide) most = lanes(weights + n) > most ? lanes(weights + n) : most;
      const Lanes highest = Lanes{} + largest(most);
      Lanes sum{};
      for (int64_t n = 0; n < padded; n += kWide) {
        Lanes weight = exponential(lanes(weights + n) - highest);
        lanes(weights + n) = weight;
        sum += weight;
      }
      inverse[r] = 1.0f / total(sum);
      logarithms[first + r] = highest[0] + std::log(total(sum));
    }
    float* out = result + first * width;
    multiply(out, width, {own.weights.data(), padded, 1}, value, row, rows, tokens, false);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t n = 0; n < kHead; n += kWide) lanes(out + r * width + n) *= inverse[r];
  }
}

// The gradients by queries, keys and values of one head of one study.
void backward(float* grad_qkv, const float* qkv, const float* result, const float* grad_result, const float* logarithms, const Stacked& shape,
          int64_t study, int64_t head, Scratch& own) {
  const int64_t tokens = shape.tokens, row = shape.row(), padded = shape.padded(), width = shape.heads * kHead;
  const float scale = 1.0f / std::sqrt(float(kHead));
  const float* query = qkv + shape.begin(study, head, 0);
  const float* key = qkv + shape.begin(study, head, 1);
  result += shape.begin_result(study, head);
  grad_result += shape.begin_result(study, head);
  logarithms += (study * shape.heads + head) * tokens;
  float* grad_query = grad_qkv + shape.begin(study, head, 0);
  float* grad_key = grad_qkv + shape.begin(study, head, 1);
  float* grad_value = grad_qkv + shape.begin(study, head, 2);
  turn(own.keys, key, shape, scale);
  turn(own.values, qkv + shape.begin(study, head, 2), shape, 1.0f);
  own.weights.resize(size_t(kBlock * padded));
  own.others.resize(size_t(kBlock * padded));
  for (int64_t first = 0; first < tokens; first += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - first);
    const bool add = first > 0;
    const float* of = grad_result + first * width;
    scores(own.weights, {query + first * row, row, 1}, own.keys, padded, rows);
    scores(own.others, {of, width, 1}, own.values, padded, rows);
    for (int64_t r = 0; r < rows; r++) {
      float* weights = own.weights.data() + r * padded;
      const Lanes logarithm = Lanes{} + logarithms[first + r];
      for (int64_t n = 0; n < padded; n += kWide) lanes(weights + n) = exponential(lanes(weights + n) - logarithm);
    }
    multiply(grad_value, row, {own.weights.data(), 1, padded}, of, width, tokens, rows, add);
    for (int64_t r = 0; r < rows; r++) {
      Lanes sum{};
      for (int64_t n = 0; n < kHead; n += kWide) sum += lanes(of + r * width + n) * lanes(result + (first + r) * width + n);
      const Lanes mean = Lanes{} + total(sum);
      float* weights = own.weights.data() + r * padded;
      const float* others = own.others.data() + r * padded;
      for (int64_t n = 0; n < padded; n += kWide) lanes(weights + n) *= (lanes(others + n) - mean) * scale;
    }
    multiply(grad_query + first * row, row, {own.weights.data(), padded, 1}, key, row, rows, tokens, false);
    multiply(grad_key, row, {own.weights.data(), 1, padded}, query + first * row, row, tokens, rows, add);
  }
}

}  // namespace

#pragma GCC pop_options

namespace {

// Calls `act(number)` for numbers below `count`, on libtorch's threads.
template <typename F>
void on_all_threads(int64_t count, F act) {
  auto numbers = at::empty({count}, at::kChar);
  const char* begin = static_cast<const char*>(numbers.const_data_ptr());
  auto iterator = at::TensorIterator::nullary_op(numbers);
  iterator.for_each([&](char** data, const int64_t*, int64_t length) {
    for (int64_t n = 0; n < length; n++) act(data[0] - begin + n);
  }, 1);
}

// `[B, N, 3H]` to `[B, N, H]`, and the logarithms of the sums of weights, `[B, heads, N]`.
std::pair<Tensor, Tensor> attend_here(const Tensor& qkv, int64_t heads) {
  const Stacked shape{qkv.size(1), heads};
  auto result = at::empty({qkv.size(0), qkv.size(1), qkv.size(2) / 3}, qkv.options());
  auto logarithms = at::empty({qkv.size(0), heads, qkv.size(1)}, qkv.options());
  const float* from = qkv.const_data_ptr<float>();
  float *to = result.mutable_data_ptr<float>(), *sums = logarithms.mutable_data_ptr<float>();
  on_all_threads(qkv.size(0) * heads, [&](int64_t n) {
    thread_local Scratch own;
    attend_one(from, to, sums, shape, n / heads, n % heads, own);
  });
  return {result, logarithms};
}

Tensor backward_here(const Tensor& qkv, const Tensor& result, const Tensor& logarithms, const Tensor& grad_result, int64_t heads) {
  const Stacked shape{qkv.size(1), heads};
  auto grad_qkv = at::empty_like(qkv);
  float* to = grad_qkv.mutable_data_ptr<float>();
  on_all_threads(qkv.size(0) * heads, [&](int64_t n) {
    thread_local Scratch own;
    backward(to, qkv.const_data_ptr<float>(), result.const_data_ptr<float>(), grad_result.const_data_ptr<float>(),
         logarithms.const_data_ptr<float>(), shape, n / heads, n % heads, own);
  });
  return grad_qkv;
}

}  // namespace

#else
#undef HERE_IS_AVX512
#endif

namespace {

bool fits(const Tensor& qkv, int64_t heads) {
#ifdef HERE_IS_AVX512
  static const bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512vl");
  return here && qkv.device().is_cpu() && qkv.scalar_type() == at::kFloat && qkv.size(2) == 3 * heads * kHead && qkv.numel() > 0;
#else
  return false;
#endif
}

// libtorch chooses the kernel. Its tape assembles the gradient of stacked queries, keys and values
// in one pass.
Tensor by_libtorch(const Tensor& qkv, int64_t heads, const std::optional<Tensor>& keys) {
  const int64_t studies = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3;
  auto parts = qkv.view({studies, tokens, 3, heads, width / heads}).unbind(2);
  for (auto& part : parts) part = part.transpose(1, 2);
  return at::scaled_dot_product_attention(parts[0], parts[1], parts[2], keys).transpose(1, 2).reshape({studies, tokens, width});
}

}  // namespace

namespace medst {

Attended attend(const Tensor& given, int64_t heads, const std::optional<Tensor>& keys, bool tape) {
  // On a CPU libtorch computes float16 value by value, and bfloat16 more slowly than this code
  // computes float32.
  const bool sixteen = given.element_size() == 2 && given.device().is_cpu();
  auto qkv = (sixteen ? given.to(at::kFloat) : given).contiguous();
  TORCH_CHECK(qkv.dim() == 3 && qkv.size(2) % (3 * heads) == 0, "attention: shape ", qkv.sizes(), " is not that of ", heads, " heads");
  Attended own;
  own.heads = heads;
#ifdef HERE_IS_AVX512
  if (!keys && fits(qkv, heads)) {
    auto [result, logarithms] = attend_here(qkv, heads);
    own.result = result.to(given.scalar_type());
    if (tape) own.kept = {qkv, result, logarithms};
    return own;
  }
#endif
  if (!tape) {
    own.result = by_libtorch(qkv, heads, keys).to(given.scalar_type());
    return own;
  }
  at::AutoGradMode taped(true);
  auto leaf = qkv.detach().requires_grad_();
  auto result = by_libtorch(leaf, heads, keys);
  own.result = result.detach().to(given.scalar_type());
  own.kept = {leaf, result};
  return own;
}

Tensor attention_backward(const Attended& own, const Tensor& grad_result) {
  const auto& kept = own.kept;
  auto gradient = grad_result.to(kept[0].scalar_type()).contiguous();
  Tensor grad_qkv;
#ifdef HERE_IS_AVX512
  if (kept.size() == 3) grad_qkv = backward_here(kept[0], kept[1], kept[2], gradient, own.heads);
#endif
  if (kept.size() == 2) grad_qkv = torch::autograd::grad({kept[1]}, {kept[0]}, {gradient})[0];
  return grad_qkv.to(grad_result.scalar_type());
}

}  // namespace medst

namespace {

struct Attention : Function<Attention> {
  static Tensor forward(AutogradContext* context, const Tensor& qkv, int64_t heads, const std::optional<Tensor>& keys, bool tape) {
    auto own = medst::attend(qkv, heads, keys, tape);
    own.save(context->saved_data, "attention");
    return own.result;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto own = medst::Attended::take(context->saved_data, "attention");
    return {medst::attention_backward(own, gradients[0]), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

// Absent keys are null.
extern "C" Tensor* medst_attention(const Tensor* qkv, int64_t heads, const Tensor* keys, char** error) {
  return medst::guarded(error, [&] {
    return Attention::apply(*qkv, heads, keys ? std::optional<Tensor>(*keys) : std::nullopt, at::GradMode::is_enabled());
  });
}
