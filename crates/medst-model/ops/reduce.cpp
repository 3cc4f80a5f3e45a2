// The sum of a tensor over all processes of a job, and the gathered rows of all processes, as nodes
// of the tape.
//
// Every process gets the sum, or the rows, and computes from them the terms of the studies it
// holds. The gradient of a process's own part is therefore the sum of what all processes found.
// Each pass is one collective, which Rust performs (src/distributed).
//
// All processes call the same collectives in the same order: libtorch runs a tape backwards in
// exactly the order in which it was recorded, and all processes record the same nodes.

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "guarded.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// Sums a contiguous tensor over all processes, in place. Returns null, or a message, which the
// caller frees.
using Sum = char* (*)(const void* group, const void* tensor);
using Release = void (*)(void* group);

// A handle of the group, which lives as long as the tape.
struct Group : torch::CustomClassHolder {
  Group(void* handle, Sum sum, Release release) : handle(handle), sum(sum), release(release) {}
  ~Group() override { release(handle); }
  void* handle;
  Sum sum;
  Release release;
};

Tensor summed(const Group& group, const Tensor& x) {
  // A copy, because others may hold the tensor that was passed in.
  auto result = x.detach().clone(at::MemoryFormat::Contiguous);
  if (std::unique_ptr<char, decltype(&free)> message{group.sum(group.handle, &result), &free}) {
    throw std::runtime_error(message.get());
  }
  return result;
}

struct SumOverRanks : Function<SumOverRanks> {
  static Tensor forward(AutogradContext* context, const Tensor& x, c10::intrusive_ptr<Group> group) {
    auto result = summed(*group, x);
    context->saved_data["group"] = c10::IValue::make_capsule(std::move(group));
    return result;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto group = c10::static_intrusive_pointer_cast<Group>(context->saved_data["group"].toCapsule());
    return {summed(*group, gradients[0]), Tensor()};
  }
};

struct GatheredRows : Function<GatheredRows> {
  static Tensor forward(AutogradContext* context, const Tensor& own, const Tensor& all, int64_t first, c10::intrusive_ptr<Group> group) {
    context->saved_data["first"] = first;
    context->saved_data["count"] = own.size(0);
    context->saved_data["group"] = c10::IValue::make_capsule(std::move(group));
    return all.detach();
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto group = c10::static_intrusive_pointer_cast<Group>(context->saved_data["group"].toCapsule());
    auto [first, count] = std::pair(context->saved_data["first"].toInt(), context->saved_data["count"].toInt());
    return {summed(*group, gradients[0]).narrow(0, first, count), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

// * group: a handle that `release` frees. Sets a message where it fails.
void* medst_sum_over_ranks(const void* x, void* group, Sum sum, Release release, char** error) {
  return medst::guarded(error, [&] {
    auto handle = c10::make_intrusive<Group>(group, sum, release);
    return SumOverRanks::apply(*static_cast<const Tensor*>(x), std::move(handle));
  });
}

// `all` as a function of `own`, which are its rows from `first` on. As above.
void* medst_gathered_rows(const void* own, const void* all, int64_t first, void* group, Sum sum, Release release, char** error) {
  return medst::guarded(error, [&] {
    auto handle = c10::make_intrusive<Group>(group, sum, release);
    return GatheredRows::apply(*static_cast<const Tensor*>(own), *static_cast<const Tensor*>(all), first, std::move(handle));
  });
}

}
