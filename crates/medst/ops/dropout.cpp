// Dropout whose units are a function of where they stand, not of what was drawn before: of the report's seed, the layer's place, and the unit's
// index in the report. So a report loses the same units however its batch is cut in chunks or shared out among processes, the mask need
// not be kept for the backward pass, and all cores draw at once (the engine's generator is one serial stream on a CPU).
//
// Called from src/model/dropout.rs.

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/native/TensorIterator.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "guarded.h"
#include "vector.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014: the finaliser of SplitMix64.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Which of the units `first …` of a line stay: 1, and 0 for those that go.
FOR_EVERY_VECTOR_UNIT void factors(float* __restrict out, int64_t first, int64_t count, uint64_t key, uint32_t limit) {
  const uint32_t low = uint32_t(key), high = uint32_t(key >> 32), start = uint32_t(first);
  for (uint32_t n = 0; n < uint32_t(count); n++) {
    uint32_t bits = ((start + n) ^ low) * 0x7feb352du;
    bits = (bits ^ (bits >> 15)) + high;
    bits *= 0x846ca68bu;
    bits = (bits ^ (bits >> 16)) * 0x7feb352du;
    bits ^= bits >> 15;
    // Of 24 bits, so that the comparison is one of signed numbers.
    out[n] = int32_t(bits >> 8) < int32_t(limit) ? 0.0f : 1.0f;
  }
}

// Units at a time, whose factors stay near.
constexpr int64_t kPiece = 1024;

struct Rule {
  std::vector<int64_t> seeds;  // of each report
  int64_t place;               // in the encoder
  double probability;
};

Tensor drop(const Tensor& given, const Rule& rule) {
  TORCH_CHECK(int64_t(rule.seeds.size()) == given.size(0), "dropout: shape [", given.size(0), ", …] with ", rule.seeds.size(), " seeds");
  auto x = given.contiguous();
  auto out = at::empty_like(x);
  // Lines of `width` units; in a report, line `head·2³² + token`, whatever the batch is padded to.
  const int64_t width = x.size(-1), tokens = x.dim() > 1 ? x.size(-2) : 1;
  const int64_t lines = x.size(0) == 0 || width == 0 ? 0 : x.numel() / x.size(0) / width;
  const auto limit = uint32_t(rule.probability * double(1 << 24));
  std::vector<uint64_t> keys;
  for (auto seed : rule.seeds) keys.push_back(mix(mix(uint64_t(seed)) + uint64_t(rule.place)));
  auto iterator = at::TensorIteratorConfig().add_output(out).add_const_input(x).build();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "medst_dropout", [&] {
    using wide = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const auto scale = wide(1.0 / (1.0 - double(limit) / double(1 << 24)));
    const auto* begin = x.const_data_ptr<scalar_t>();
    iterator.for_each([&](char** data, const int64_t*, int64_t count) {
      auto* to = reinterpret_cast<scalar_t*>(data[0]);
      const auto* from = reinterpret_cast<const scalar_t*>(data[1]);
      float factor[kPiece];
      while (count > 0) {
        const int64_t at = from - begin, unit = at % width, number = at / width;
        const int64_t row = number / lines, within = number % lines;
        const uint64_t place = (uint64_t(within / tokens) << 32) + uint64_t(within % tokens);
        const int64_t here = std::min({count, width - unit, kPiece});
        factors(factor, unit, here, mix(keys[size_t(row)] ^ mix(place)), limit);
        for (int64_t n = 0; n < here; n++) to[n] = scalar_t(wide(from[n]) * (wide(factor[n]) * scale));
        to += here, from += here, count -= here;
      }
    }, 16384);
  });
  return out;
}

struct Dropout : Function<Dropout> {
  static Tensor forward(AutogradContext* context, const Tensor& x, std::vector<int64_t> seeds, int64_t place, double probability) {
    Rule rule{std::move(seeds), place, probability};
    auto out = drop(x, rule);
    context->saved_data["seeds"] = std::move(rule.seeds);
    context->saved_data["place"] = place;
    context->saved_data["probability"] = probability;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto& saved = context->saved_data;
    Rule rule{saved["seeds"].toIntVector(), saved["place"].toInt(), saved["probability"].toDouble()};
    return {drop(gradients[0], rule), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

// * seeds: one for each of the `count` rows of `x`, `[B, …, tokens, units]`.
extern "C" Tensor* medst_dropout(const Tensor* x, const int64_t* seeds, size_t count, int64_t place, double probability, char** error) {
  return medst::guarded(error, [&] { return Dropout::apply(*x, std::vector<int64_t>(seeds, seeds + count), place, probability); });
}
