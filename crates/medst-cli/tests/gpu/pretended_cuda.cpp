// A substitute for `libtorch_cuda.so`: it registers one CUDA device with libtorch whose memory is
// the host's and whose kernels are the CPU's. With it in LD_LIBRARY_PATH a program takes the path
// that it takes on a GPU: it loads the library, finds a device, sends tensors there, and its
// backward pass runs in the device's own thread. It shows nothing about the speed or the rounding
// of a GPU.
//
// As on a GPU, a kernel refuses tensors of both devices (except for single numbers and for
// indices).
//
// MEDST_PRETENDED_GPU=FILE: when the program ends, writes one JSON object to FILE: how many
// operations ran on the device, and how often each operation made the host wait for the device,
// because it reads a number, because the next shape depends on values, or because a copy did not
// allow the host to go on.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/Resize.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {

using at::Tensor;
using c10::IValue;

const at::Device kHost(at::kCPU), kGpu(at::kCUDA, 0);

// ---- What has run
// -------------------------------------------------------------------------------------------------

struct Ledger {
  std::mutex lock;
  int64_t operations = 0;
  std::map<std::string, int64_t> waits;

  void add(const std::string& name, bool waited) {
    std::lock_guard<std::mutex> guard(lock);
    operations++;
    if (waited) waits[name]++;
  }

  ~Ledger() {
    const char* path = std::getenv("MEDST_PRETENDED_GPU");
    FILE* file = path && operations > 0 ? std::fopen(path, "w") : nullptr;
    if (!file) return;
    std::fprintf(file, "{\"operations\": %ld, \"waits\": {", long(operations));
    const char* between = "";
    for (auto& [name, count] : waits) {
      std::fprintf(file, "%s\"%s\": %ld", between, name.c_str(), long(count));
      between = ", ";
    }
    std::fprintf(file, "}}\n");
    std::fclose(file);
  }
};

Ledger& ledger() {
  static Ledger own;
  return own;
}

// Whether `self` is what a matrix product is added to.
bool adds(const std::string& name) { return name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::addmm_"; }

bool multiplies(const std::string& name) { return name == "aten::mm" || name == "aten::bmm" || adds(name); }

// Operations after which the host cannot go on without a value that the device computes.
bool waits(const std::string& name) {
  static const std::set<std::string> all = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::_unique2", "aten::masked_select",
                                            "aten::is_nonzero", "aten::repeat_interleave", "aten::unique_dim", "aten::unique_consecutive"};
  return all.count(name) > 0;
}

// ---- Memory
// -------------------------------------------------------------------------------------------------

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    auto host = at::getCPUAllocator()->allocate(size);
    auto release = host.get_deleter();
    void *data = host.get(), *context = host.release_context();
    return {data, context, release, kGpu};
  }
  void copy_data(void* to, const void* from, size_t count) const override { std::memcpy(to, from, count); }
};

Memory memory;

// Memory of the host that a device reads by itself.
struct Pinned final : c10::Allocator {
  std::mutex lock;
  std::map<const void*, c10::DataPtr> all;

  c10::DataPtr allocate(size_t size) override {
    auto host = at::getCPUAllocator()->allocate(size);
    void* data = host.get();
    std::lock_guard<std::mutex> guard(lock);
    all.emplace(data, std::move(host));
    return {data, data, &let_go, kHost};
  }
  static void let_go(void* data);
  bool holds(const void* data) {
    std::lock_guard<std::mutex> guard(lock);
    return all.count(data) > 0;
  }
  void copy_data(void* to, const void* from, size_t count) const override { std::memcpy(to, from, count); }
};

Pinned& pinned() {
  static auto* own = new Pinned;
  return *own;
}

void Pinned::let_go(void* data) {
  std::lock_guard<std::mutex> guard(pinned().lock);
  pinned().all.erase(data);
}

// Copies of at most this size go through the driver's own memory, so that the host does not
// wait for them.
constexpr int64_t kStaged = 64 << 10;

bool on_gpu(const Tensor& x) { return x.defined() && x.is_cuda(); }

// The same memory, under another device's name. Kept alive by the result.
Tensor renamed(const Tensor& x, at::Device device) {
  auto storage = x.storage();
  c10::DataPtr pointer(storage.mutable_data(), new Tensor(x), [](void* held) { delete static_cast<Tensor*>(held); }, device);
  auto* allocator = device == kHost ? at::getCPUAllocator() : static_cast<c10::Allocator*>(&memory);
  c10::Storage own(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(pointer), allocator, true);
  auto keys = c10::DispatchKeySet(device == kHost ? c10::DispatchKey::CPU : c10::DispatchKey::CUDA);
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(own), keys, x.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(x.sizes(), x.strides(), x.storage_offset());
  if (x.unsafeGetTensorImpl()->is_wrapped_number()) result.unsafeGetTensorImpl()->set_wrapped_number(true);
  return result;
}

Tensor to_host(const Tensor& x) { return on_gpu(x) ? renamed(x, kHost) : x; }
Tensor to_gpu(const Tensor& x) { return x.defined() && x.is_cpu() ? renamed(x, kGpu) : x; }

// What a kernel has written under the host's name, and may have made larger.
void follow(const Tensor& of_gpu, const Tensor& of_host) {
  auto* own = of_gpu.unsafeGetTensorImpl();
  if (own->storage().data() != of_host.storage().data()) own->set_storage_keep_dtype(renamed(of_host, kGpu).storage());
  own->set_sizes_and_strides(of_host.sizes(), of_host.strides(), of_host.storage_offset());
}

// Float32 as the matrix units of a GPU take it where the program allows TF32: 10 bits after the
// point.
Tensor as_tf32(const Tensor& x) {
  return x.contiguous().view(at::kInt).add(0x1000).bitwise_and(~0x1fff).view(at::kFloat);
}

// ---- Kernels
// -------------------------------------------------------------------------------------------------

// A float16 product, summed in float32 as on a GPU. (The CPU's kernel sums value by value.)
void multiply_half(const std::string& name, const c10::FunctionSchema& schema, torch::jit::Stack& stack) {
  const size_t count = schema.arguments().size(), begin = stack.size() - count;
  auto factor = [&](size_t n) { return stack[begin + n].toTensor().to(at::kFloat); };
  Tensor result;
  if (adds(name)) {
    auto scalar = [&](const char* own) { return stack[begin + size_t(*schema.argumentIndexWithName(own))].toScalar(); };
    result = factor(0) * scalar("beta") + at::matmul(factor(1), factor(2)) * scalar("alpha");
  } else {
    result = at::matmul(factor(0), factor(1));
  }
  const bool out = schema.arguments().back().is_out();
  const bool in_place = !out && schema.arguments()[0].alias_info();
  auto target = out ? stack.back().toTensor() : in_place ? stack[begin].toTensor() : at::empty(result.sizes(), result.options().dtype(at::kHalf));
  target.resize_(result.sizes()).copy_(result);
  torch::jit::drop(stack, count);
  torch::jit::push(stack, target);
}

// Any operation, by the CPU's kernel.
void by_the_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto name = schema.name();
  const size_t count = schema.arguments().size(), begin = stack->size() - count;
  const bool indexes = name.find("index") != std::string::npos;
  std::vector<IValue> given(stack->begin() + long(begin), stack->end());
  // A tensor of the GPU, and the same memory as a tensor of the host.
  std::vector<std::pair<Tensor, Tensor>> both;
  auto move = [&](const Tensor& x, const c10::Argument& argument) {
    if (!x.defined()) return x;
    if (x.is_cpu() && x.dim() > 0 && !(indexes && argument.name() == "indices")) {
      TORCH_CHECK(false, name, ": `", argument.name(), "` ", x.sizes(), " is on the CPU, and other tensors on the GPU: expected all tensors to be on the same device");
    }
    auto host = to_host(x);
    if (on_gpu(x)) both.emplace_back(x, host);
    return host;
  };
  for (size_t n = 0; n < count; n++) {
    auto& value = (*stack)[begin + n];
    const auto& argument = schema.arguments()[n];
    if (value.isTensor()) {
      value = move(value.toTensor(), argument);
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& own : value.toTensorVector()) list.push_back(move(own, argument));
      value = std::move(list);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& own : value.toOptionalTensorList().vec()) list.push_back(own ? std::optional<Tensor>(move(*own, argument)) : std::nullopt);
      value = std::move(list);
    } else if (value.isDevice()) {
      value = kHost;
    }
  }
  const bool tf32 = at::globalContext().allowTF32CuBLAS() && multiplies(name);
  for (size_t n = 0; n < count; n++) {
    auto& value = (*stack)[begin + n];
    const auto& argument = schema.arguments()[n];
    const bool factor = value.isTensor() && !argument.is_out() && !(adds(name) && argument.name() == "self");
    if (tf32 && factor && value.toTensor().scalar_type() == at::kFloat) value = as_tf32(value.toTensor());
  }
  if (multiplies(name) && both.back().first.scalar_type() == at::kHalf) {
    multiply_half(name, schema, *stack);
  } else {
    op.callBoxed(*stack);
  }
  for (auto& [gpu, host] : both) follow(gpu, host);
  const auto& returns = schema.returns();
  const size_t results = stack->size() - returns.size();
  for (size_t n = 0; n < returns.size(); n++) {
    auto& value = (*stack)[results + n];
    const auto* alias = returns[n].alias_info();
    if (alias && alias->isWrite()) {
      // In place: the argument itself.
      for (size_t own = 0; own < count; own++) {
        const auto* of = schema.arguments()[own].alias_info();
        if (of && of->isWrite() && of->beforeSets() == alias->beforeSets()) value = given[own];
      }
      continue;
    }
    TORCH_CHECK(!alias, name, ": a view that the pretended device does not know");
    if (value.isTensor()) {
      value = to_gpu(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& own : value.toTensorVector()) list.push_back(to_gpu(own));
      value = std::move(list);
    }
  }
  ledger().add(name, waits(name));
}

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(type), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type, std::optional<at::Layout>, std::optional<at::Device>,
                     std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(type));
}

Tensor& copy(Tensor& self, const Tensor& from, bool without_waiting) {
  to_host(self).copy_(to_host(from), without_waiting);
  const char* name = self.is_cuda() ? (from.is_cuda() ? "aten::copy_" : "copy to the device") : "copy from the device";
  const bool staged = int64_t(from.nbytes()) <= kStaged || pinned().holds(from.storage().data());
  ledger().add(name, !self.is_cuda() || (from.is_cpu() && !(without_waiting && staged)));
  return self;
}

const Tensor& resize(const Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  auto host = to_host(self);
  host.resize_(size);
  follow(self, host);
  return self;
}

// Flash attention where a GPU would have it: no mask.
int64_t choose(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>& mask, double dropout, bool, std::optional<double>, bool) {
  return int64_t(mask || dropout > 0 ? sdp::SDPBackend::math : sdp::SDPBackend::flash_attention);
}

int64_t choose_checked(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask, double dropout, bool causal,
                       std::optional<double> scale, bool grouped) {
  return choose(q, k, v, mask, dropout, causal, scale, grouped);
}

// The CPU's attention is slow in float16; in float32 it lacks the rounding of weights that a GPU's
// has.
Tensor quick(const Tensor& x) { return to_host(x).to(x.scalar_type() == at::kHalf ? at::kFloat : x.scalar_type()); }

using Attended = std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;

Attended attend(const Tensor& q, const Tensor& k, const Tensor& v, double dropout, bool causal, bool, std::optional<double> scale) {
  auto [full, sums] = at::_scaled_dot_product_flash_attention_for_cpu(quick(q), quick(k), quick(v), dropout, causal, std::nullopt, scale);
  auto out = full.to(q.scalar_type());
  ledger().add("attention", false);
  auto none = at::empty({0}, q.options().dtype(at::kLong));
  return {to_gpu(out), to_gpu(sums), Tensor(), Tensor(), q.size(2), k.size(2), none, none, Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> attend_back(const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& sums,
                                               const Tensor&, const Tensor&, int64_t, int64_t, double dropout, bool causal, const Tensor&, const Tensor&,
                                               std::optional<double> scale) {
  auto [of_q, of_k, of_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(quick(gradient), quick(q), quick(k), quick(v), quick(out), to_host(sums),
                                                                                     dropout, causal, std::nullopt, scale);
  for (auto* own : {&of_q, &of_k, &of_v}) *own = own->to(q.scalar_type());
  ledger().add("attention, backwards", false);
  return {to_gpu(of_q), to_gpu(of_k), to_gpu(of_v)};
}

// ---- The device
// -------------------------------------------------------------------------------------------------

c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kGpu); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = at::kCUDA;
  c10::DeviceType type() const override { return at::kCUDA; }
  at::Device exchangeDevice(at::Device) const override { return kGpu; }
  at::Device getDevice() const override { return kGpu; }
  void setDevice(at::Device) const override {}
  void uncheckedSetDevice(at::Device) const noexcept override {}
  c10::Stream getStream(at::Device) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(at::Device) const override { return stream(); }
  c10::Stream getNewStream(at::Device, int) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(at::Device, bool) const override { return stream(); }
  void* getStreamNativeHandle(const c10::Stream) const override { return nullptr; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

}  // namespace

namespace at {

// By this name libtorch asks for them.
struct CUDAHooks : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  const Generator& getDefaultGenerator(DeviceIndex) const override { return at::detail::getDefaultCPUGenerator(); }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned(); }
  bool isPinnedPtr(const void* data) const override { return pinned().holds(data); }
  Allocator* getCUDADeviceAllocator() const override { return &memory; }
  void deviceSynchronize(DeviceIndex) const override {}
};

REGISTER_CUDA_HOOKS(CUDAHooks)

namespace native {
REGISTER_CUDA_DISPATCH(_fused_sdp_choice_stub, &choose_checked)
}

}  // namespace at

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_host>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("unfold", TORCH_FN(at::native::unfold));
  library.impl("copy_", TORCH_FN(copy));
  library.impl("resize_", TORCH_FN(resize));
  // Whose composite form, for devices without a kernel of their own, a GPU would not take.
  library.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&by_the_host>());
  library.impl("_scaled_dot_product_flash_attention", TORCH_FN(attend));
  library.impl("_scaled_dot_product_flash_attention_backward", TORCH_FN(attend_back));
}
