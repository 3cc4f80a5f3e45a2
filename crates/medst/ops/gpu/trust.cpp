// Which kernels of our own are used: those that give on the card at hand what the engine's operations give there.

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "gpu.h"

namespace medst::gpu {
namespace {

using at::Tensor;

enum class Asked { kNever, kWhereTheyAreRight, kAlways };

Asked asked() {
  static const Asked own = [] {
    const char* value = std::getenv("MEDST_GPU_KERNELS");
    const std::string text = value ? value : "";
    return text == "0" ? Asked::kNever : text == "1" ? Asked::kAlways : Asked::kWhereTheyAreRight;
  }();
  return own;
}

// Numbers without an order, the same every time.
Tensor numbers(at::IntArrayRef sizes, const Tensor& on, double step) {
  return at::arange(c10::multiply_integers(sizes), on.options().dtype(at::kFloat)).mul_(step).sin_().view(sizes);
}

void compare(const char* what, const Tensor& own, const Tensor& engines, double tolerance) {
  auto mine = own.to(at::kFloat), others = engines.to(at::kFloat).view_as(own);
  if (at::allclose(mine, others, tolerance, tolerance)) return;
  TORCH_CHECK(false, what, " differs from the engine's by up to ", (mine - others).abs().max().item<float>());
}

// Throws where something differs.
void compare_norm(const Tensor& on, int64_t width, at::ScalarType type, double rounding) {
  // More rows than are taken at once, among others, which must stay as they are.
  const int64_t tokens = 5, pitch = 9, offset = 4, studies = rows_at_once(on, width, type) / tokens + 3;
  const Places places{tokens, pitch, offset};
  auto x = numbers({studies, tokens, width}, on, 0.7), weight = numbers({width}, on, 0.3), bias = numbers({width}, on, 0.2);
  auto y = at::zeros({studies, pitch, width}, x.options().dtype(type));
  auto means = at::empty({studies, tokens, 1}, x.options()), deviations = at::empty_like(means);
  norm(x, weight, bias, y, places, means, deviations, 1e-6);
  auto [value, mean, deviation] = at::native_layer_norm(x, {width}, weight, bias, 1e-6);
  compare("a norm", y.narrow(1, offset, tokens), value, rounding);
  compare("what lies beside a norm", y.narrow(1, 0, offset), at::zeros({studies, offset, width}, x.options()), 0);
  compare("a mean", means, mean, 1e-4);
  compare("a deviation", deviations, deviation, 1e-4);

  auto of_y = numbers({studies, pitch, width}, on, 1.1).to(type), beside = numbers({studies, tokens, width}, on, 0.4), of_x = at::empty_like(x);
  auto [of_weight, of_bias] = pull_norm(of_y, places, x, mean, deviation, weight, beside, of_x);
  auto [by_x, by_weight, by_bias] =
      at::native_layer_norm_backward(of_y.narrow(1, offset, tokens).to(at::kFloat).contiguous(), x, {width}, mean, deviation, weight, bias, {true, true, true});
  // Sums of so many rows are rounded in another order.
  const double of_sums = 1e-4 * std::sqrt(double(studies * tokens));
  compare("a norm's gradient", of_x, by_x + beside, 1e-3);
  compare("a norm's gradient by its weight", of_weight, by_weight, of_sums);
  compare("a norm's gradient by its bias", of_bias, by_bias, of_sums);
}

void compare_others(const Tensor& on, at::ScalarType type, double rounding) {
  auto units = (numbers({100, 200}, on, 0.7) * 4).to(type), of_units = numbers({100, 200}, on, 1.3).to(type), own = of_units.clone();
  auto sums = pull_gelu(units, own);
  auto engines = at::gelu_backward(of_units.to(at::kFloat), units.to(at::kFloat));
  compare("GELU's gradient", own, engines, rounding);
  compare("GELU's gradient by its bias", sums, engines.sum(0), 10 * rounding);

  auto seeds = at::arange(1, 4, on.options().dtype(at::kLong));
  for (auto kind : {type, at::kFloat}) {
    auto x = (numbers({3, 2, 7, 37}, on, 0.7)).to(kind);
    compare("dropout", drop(x, seeds, {5, 0.3}), drop_by_engine(x, seeds, {5, 0.3}), 0);
  }
}

// Whether those for rows of `width` and `type` are to be used on the card of `on`.
bool right(const Tensor& on, int64_t width, at::ScalarType type) {
  static std::mutex lock;
  static std::map<std::tuple<int, int64_t, at::ScalarType>, bool> all;
  std::lock_guard<std::mutex> guard(lock);
  auto [place, is_new] = all.try_emplace({on.device().index(), width, type}, false);
  if (!is_new) return place->second;
  const at::NoGradGuard without_tape;
  const double rounding = 1.0 / 128;
  try {
    compare_norm(on, width, type, rounding);
    compare_others(on, type, rounding);
    place->second = true;
  } catch (const std::exception& error) {
    if (asked() == Asked::kAlways) throw;
    std::string what = error.what();
    std::fprintf(stderr, "warning: the engine's operations are used in place of medst's GPU kernels: %s\n", what.substr(0, what.find('\n')).c_str());
  }
  return place->second;
}

bool fit(const Tensor& x, int64_t width, at::ScalarType type) {
  return asked() != Asked::kNever && x.is_cuda() && (type == at::kHalf || type == at::kBFloat16) && width % 128 == 0 && width <= 1024 && right(x, width, type);
}

}  // namespace

bool fit_norm(const Tensor& x, at::ScalarType type) { return x.scalar_type() == at::kFloat && fit(x, x.size(-1), type); }

bool fit_gelu(const Tensor& units) { return units.size(1) % 4 == 0 && fit(units, kAnyWidth, units.scalar_type()); }

bool fit_drop(const Tensor& x) { return fit(x, kAnyWidth, x.scalar_type() == at::kFloat ? at::kBFloat16 : x.scalar_type()); }

}  // namespace medst::gpu
