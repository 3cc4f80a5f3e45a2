// The exact GELU, x·Φ(x), on a CPU in float32: one pass over memory where libtorch's function and
// its gradient take three, and less time in each (docs/performance.md).
//
// Φ(−|x|) = ½·exp(−x²/2)·P(t) with t = 1 / (1 + c·|x|), the form of Hastings' approximations of the
// error function (Abramowitz and Stegun, 7.1.26); P, of degree 9 and without a constant, was fitted
// for this file with a relative error of 1.1e-8. The slope, Φ(x) + x·φ(x), uses the same
// exponential. In float32 the largest error of x·Φ(x) for |x| < 3 is 2.1e-7; libtorch's is 1.0e-6.

#include "gelu.h"

#include <ATen/native/TensorIterator.h>

#include <cstdint>
#include <cstring>

#include "vector.h"

namespace medst {
namespace {

using at::Tensor;

// e^y for y in [−87, 0], two units in the last place.
inline float exponential(float y) {
  constexpr float kRound = 12582912.0f;  // 1.5·2²³: adding it leaves a whole number in the low bits
  float shifted = y * 1.44269504f + kRound;
  float whole = shifted - kRound;
  float rest = y - whole * 0.693145752f - whole * 1.42860677e-6f;
  float power = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.166666667f + rest * (0.0416666667f + rest * (0.00833333333f + rest * 0.00138888889f)))));
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;  // 2^whole: what kRound adds vanishes on the left
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return power * scale;
}

struct Normal {
  float distribution, density;  // Φ(x), φ(x)
};

inline Normal normal(float x) {
  float size = x < 0 ? -x : x;
  size = size > 13.0f ? 13.0f : size;
  float bell = exponential(-0.5f * size * size);
  float t = 1.0f / (1.0f + 0.265165043f * size);
  float series = 0.0616956763f * t - 0.288070947f;
  series = series * t + 0.433884829f;
  series = series * t - 0.231066361f;
  series = series * t + 0.274837255f;
  series = series * t + 0.121041864f;
  series = series * t + 0.205429673f;
  series = series * t + 0.210633606f;
  series = series * t + 0.211614415f;
  float tail = 0.5f * bell * series * t;
  return {x > 0 ? 1.0f - tail : tail, 0.398942280f * bell};
}

FOR_EVERY_VECTOR_UNIT void activate(float* __restrict out, const float* __restrict x, int64_t count) {
  for (int64_t n = 0; n < count; n++) out[n] = x[n] * normal(x[n]).distribution;
}

// `gradient` is that of the activated units, then that of `x`.
FOR_EVERY_VECTOR_UNIT void activate_and_backward(float* __restrict out, float* __restrict gradient, const float* __restrict x, int64_t count) {
  for (int64_t n = 0; n < count; n++) {
    Normal at = normal(x[n]);
    out[n] = x[n] * at.distribution;
    gradient[n] *= at.distribution + x[n] * at.density;
  }
}

bool ours(const Tensor& x) { return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous(); }

// Elements below which another thread costs more than it saves.
constexpr int64_t kGrain = 16384;

}  // namespace

Tensor gelu(const Tensor& units) {
  if (!ours(units)) return at::gelu(units);
  auto out = at::empty_like(units);
  auto iterator = at::TensorIteratorConfig().add_output(out).add_const_input(units).build();
  // On libtorch's threads, in runs of consecutive elements.
  iterator.for_each([](char** data, const int64_t*, int64_t count) {
    activate(reinterpret_cast<float*>(data[0]), reinterpret_cast<const float*>(data[1]), count);
  }, kGrain);
  return out;
}

std::pair<Tensor, Tensor> gelu_and_backward(const Tensor& units, Tensor gradient) {
  if (!ours(units) || !ours(gradient)) return {at::gelu(units), at::gelu_backward(gradient, units)};
  auto out = at::empty_like(units);
  auto iterator = at::TensorIteratorConfig().add_output(out).add_output(gradient).add_const_input(units).build();
  iterator.for_each([](char** data, const int64_t*, int64_t count) {
    activate_and_backward(reinterpret_cast<float*>(data[0]), reinterpret_cast<float*>(data[1]), reinterpret_cast<const float*>(data[2]), count);
  }, kGrain);
  return {out, gradient};
}

}  // namespace medst
