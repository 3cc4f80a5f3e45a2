// Dropout whose units are a function of their position, not of earlier draws: of the report's seed,
// the layer's place, and the unit's index in the report. So a report loses the same units however
// its batch is cut into chunks or divided among processes, the mask need not be kept for the
// backward pass, and all cores draw at once (libtorch's generator is one serial stream on a CPU).
// On a GPU libtorch's operations compute the same mask, and drop the same units.
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
using namespace medst;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

struct Drop {
  int64_t place;       // in the encoder
  double probability;

  // A unit is dropped when its 24 random bits are below this.
  uint32_t limit() const { return uint32_t(probability * double(1 << 24)); }
  // The factor on the other units.
  double scale() const { return 1.0 / (1.0 - double(limit()) / double(1 << 24)); }
};

// Lines of `width` units of a tensor `[B, …, tokens, units]`; within a report, line
// `head·2³² + token`, whatever length the batch is padded to.
struct Lines {
  int64_t width, tokens, of_row, all;

  explicit Lines(const Tensor& x) : width(x.size(-1)), tokens(x.dim() > 1 ? x.size(-2) : 1) {
    const bool empty = x.numel() == 0;
    of_row = empty ? 0 : x.numel() / x.size(0) / width, all = empty ? 0 : x.numel() / width;
  }
};

// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014: the finaliser of
// SplitMix64.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Factors of the units `first …` of a line: 1 for units that are kept, 0 for those that are
// dropped.
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

// Units per piece; small enough for their factors to stay in the cache.
constexpr int64_t kPiece = 1024;

Tensor drop_on_host(const Tensor& x, const Tensor& seeds, const Drop& rule) {
  auto out = at::empty_like(x);
  const Lines lines(x);
  std::vector<uint64_t> keys;
  const auto* seed = seeds.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < x.size(0); row++) keys.push_back(mix(mix(uint64_t(seed[row])) + uint64_t(rule.place)));
  auto iterator = at::TensorIteratorConfig().add_output(out).add_const_input(x).build();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "medst_dropout", [&] {
    using wide = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const auto scale = wide(rule.scale());
    const auto* begin = x.const_data_ptr<scalar_t>();
    iterator.for_each([&](char** data, const int64_t*, int64_t count) {
      auto* to = reinterpret_cast<scalar_t*>(data[0]);
      const auto* from = reinterpret_cast<const scalar_t*>(data[1]);
      float factor[kPiece];
      while (count > 0) {
        const int64_t at = from - begin, unit = at % lines.width, number = at / lines.width;
        const int64_t row = number / lines.of_row, within = number % lines.of_row;
        const uint64_t place = (uint64_t(within / lines.tokens) << 32) + uint64_t(within % lines.tokens);
        const int64_t here = std::min({count, lines.width - unit, kPiece});
        factors(factor, unit, here, mix(keys[size_t(row)] ^ mix(place)), rule.limit());
        for (int64_t n = 0; n < here; n++) to[n] = scalar_t(wide(from[n]) * (wide(factor[n]) * scale));
        to += here, from += here, count -= here;
      }
    }, 16384);
  });
  return out;
}

// libtorch's right shift copies the sign bit, and it has no unsigned numbers.
Tensor shifted(const Tensor& bits, int64_t by) {
  const int64_t width = bits.scalar_type() == at::kLong ? 64 : 32;
  return at::bitwise_right_shift(bits, at::Scalar(by)).bitwise_and_(at::Scalar((int64_t(1) << (width - by)) - 1));
}

// As `mix`, of int64.
Tensor mixed(Tensor x) {
  x = x + int64_t(0x9e3779b97f4a7c15);
  x = x.bitwise_xor_(shifted(x, 30)).mul_(int64_t(0xbf58476d1ce4e5b9));
  x = x.bitwise_xor_(shifted(x, 27)).mul_(int64_t(0x94d049bb133111eb));
  return x.bitwise_xor_(shifted(x, 31));
}

// Which units of `x` stay, bool, computed by libtorch's operations on any device.
Tensor staying(const Tensor& x, const Tensor& seeds, const Drop& rule) {
  const Lines lines(x);
  if (lines.all == 0) return at::ones_like(x, x.options().dtype(at::kBool));
  auto numbers = [&](int64_t count, at::ScalarType type) { return at::arange(count, x.options().dtype(type)); };
  auto within = numbers(lines.of_row, at::kLong);
  auto place = at::floor_divide(within, lines.tokens).mul_(int64_t(1) << 32).add_(at::remainder(within, lines.tokens));
  auto keys = mixed(at::bitwise_xor(mixed(mixed(seeds) + rule.place).unsqueeze(1), mixed(place))).reshape({-1, 1});
  // As `factors`, of int32.
  auto bits = at::bitwise_xor(numbers(lines.width, at::kInt), keys.to(at::kInt)).mul_(0x7feb352d);
  bits.bitwise_xor_(shifted(bits, 15)).add_(at::bitwise_right_shift(keys, at::Scalar(32)).to(at::kInt)).mul_(int32_t(0x846ca68b));
  bits.bitwise_xor_(shifted(bits, 16)).mul_(0x7feb352d);
  bits.bitwise_xor_(shifted(bits, 15));
  return shifted(bits, 8).ge(int64_t(rule.limit())).view(x.sizes());
}

// Scaled in the precision that the host's loop uses, whatever type libtorch would choose for the
// product of a number and a 16-bit tensor.
Tensor scaled(const Tensor& x, const Tensor& stay, const Drop& rule) {
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return (x * stay).to(wide).mul_(rule.scale()).to(x.scalar_type());
}

// `[B, …, tokens, units]`, some of them zeroed and the others scaled.
struct Dropout : Function<Dropout> {
  static Tensor forward(AutogradContext* context, const Tensor& given, const Tensor& seeds, int64_t place, double probability) {
    TORCH_CHECK(seeds.numel() == given.size(0), "dropout: shape [", given.size(0), ", …] with ", seeds.numel(), " seeds");
    const Drop rule{place, probability};
    auto x = given.contiguous();
    // On a GPU the mask takes two dozen passes over memory to compute, so it is kept for the
    // backward pass.
    Tensor stay;
    if (!x.device().is_cpu()) stay = staying(x, seeds, rule);
    context->saved_data["place"] = place;
    context->saved_data["probability"] = probability;
    context->save_for_backward({seeds, stay});
    return drop(x, seeds, stay, rule);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto& data = context->saved_data;
    auto saved = context->get_saved_variables();
    return {drop(gradients[0].contiguous(), saved[0], saved[1], {data["place"].toInt(), data["probability"].toDouble()}), Tensor(), Tensor(), Tensor()};
  }

  static Tensor drop(const Tensor& x, const Tensor& seeds, const Tensor& stay, const Drop& rule) {
    return x.device().is_cpu() ? drop_on_host(x, seeds, rule) : scaled(x, stay, rule);
  }
};

}  // namespace

// * seeds: int64, one for each of the rows of `x`, `[B, …, tokens, units]`, on its device.
extern "C" Tensor* medst_dropout(const Tensor* x, const Tensor* seeds, int64_t place, double probability, char** error) {
  return guarded(error, [&] { return Dropout::apply(*x, *seeds, place, probability); });
}
