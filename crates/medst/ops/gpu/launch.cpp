// Compiles kernels.cu for the card at hand, and starts its kernels.
//
// Nothing of CUDA is linked: the compiler (NVRTC) that comes with libtorch and the driver are loaded when they are first needed, and are called by the
// signatures that their documentation gives.

#include "gpu.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

namespace medst::gpu {
namespace {

using at::Tensor;

const char* const kSource =
#include "kernels.inc"
    ;

void* load(std::initializer_list<std::string> names) {
  for (auto& name : names)
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL)) return library;
  TORCH_CHECK(false, *names.begin(), " could not be loaded");
}

// The folder that holds libtorch and, in wheels, NVIDIA's libraries beside it.
std::string packages() {
  Dl_info found;
  if (!dladdr(reinterpret_cast<void*>(&at::globalContext), &found)) return "";
  std::string path = found.dli_fname;
  for (int n = 0; n < 3; n++) path.erase(std::min(path.size(), path.rfind('/')));
  return path;
}

template <typename F>
F* symbol(void* library, const char* name) {
  auto* found = reinterpret_cast<F*>(dlsym(library, name));
  TORCH_CHECK(found, name, " is missing");
  return found;
}

// NVRTC and the driver: handles are pointers, results 0 where all went well.
struct Libraries {
  void* compiler = load({"libnvrtc.so.13", "libnvrtc.so.12", packages() + "/nvidia/cu13/lib/libnvrtc.so.13", packages() + "/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"});
  void* driver = load({"libcuda.so.1"});

  Libraries() {
    // NVRTC asks for this one by its name alone, wherever it lies itself.
    Dl_info found;
    if (!dladdr(reinterpret_cast<void*>(create), &found)) return;
    std::string path = found.dli_fname;
    path = path.substr(0, path.rfind('/') + 1) + "libnvrtc-builtins.so.*";
    glob_t files;
    if (glob(path.c_str(), 0, nullptr, &files) == 0)
      for (size_t n = 0; n < files.gl_pathc; n++) dlopen(files.gl_pathv[n], RTLD_NOW | RTLD_GLOBAL);
    globfree(&files);
  }

  using Create = int(void** program, const char* source, const char* name, int headers, const char* const* contents, const char* const* names);
  Create* create = symbol<Create>(compiler, "nvrtcCreateProgram");
  using Compile = int(void* program, int count, const char* const* options);
  Compile* compile = symbol<Compile>(compiler, "nvrtcCompileProgram");
  using Size = int(void* program, size_t* size);
  using Get = int(void* program, char* text);
  Size *log_size = symbol<Size>(compiler, "nvrtcGetProgramLogSize"), *binary_size = symbol<Size>(compiler, "nvrtcGetCUBINSize");
  Get *log = symbol<Get>(compiler, "nvrtcGetProgramLog"), *binary = symbol<Get>(compiler, "nvrtcGetCUBIN");
  using Destroy = int(void** program);
  Destroy* destroy = symbol<Destroy>(compiler, "nvrtcDestroyProgram");

  using Attribute = int(int* value, int attribute, int device);
  Attribute* attribute = symbol<Attribute>(driver, "cuDeviceGetAttribute");
  using Load = int(void** module, const void* image);
  Load* load_module = symbol<Load>(driver, "cuModuleLoadData");
  using Function = int(void** function, void* module, const char* name);
  Function* function = symbol<Function>(driver, "cuModuleGetFunction");
  using Launch = int(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                     void* stream, void** parameters, void** extra);
  Launch* launch = symbol<Launch>(driver, "cuLaunchKernel");
};

// Of the driver's enumeration.
constexpr int kProcessors = 16, kMajor = 75, kMinor = 76;

// Of a block. A warp has 32 threads.
constexpr int kThreads = 256, kWarps = kThreads / 32;


// The kernels for one card, width and type.
struct Kernels {
  const Libraries& libraries;
  int processors = 0;
  void *norm, *pull_norm, *pull_gelu, *drop, *drop_float;

  Kernels(const Libraries& libraries, int device, int64_t width, bool half) : libraries(libraries) {
    int major = 0, minor = 0;
    check(libraries.attribute(&processors, kProcessors, device), "cuDeviceGetAttribute");
    check(libraries.attribute(&major, kMajor, device), "cuDeviceGetAttribute");
    check(libraries.attribute(&minor, kMinor, device), "cuDeviceGetAttribute");
    auto image = compiled({"--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor), "--std=c++17", "-DWIDTH=" + std::to_string(width),
                           half ? "-DHALF" : "-DBFLOAT16"});
    void* module = nullptr;
    check(libraries.load_module(&module, image.data()), "cuModuleLoadData");
    auto find = [&](const char* name) {
      void* function = nullptr;
      check(libraries.function(&function, module, name), name);
      return function;
    };
    norm = find("medst_norm"), pull_norm = find("medst_pull_norm"), pull_gelu = find("medst_pull_gelu");
    drop = find("medst_drop"), drop_float = find("medst_drop_float");
  }

  static void check(int result, const char* what) { TORCH_CHECK(result == 0, what, " failed with ", result); }

  std::string compiled(const std::vector<std::string>& options) const {
    void* program = nullptr;
    check(libraries.create(&program, kSource, "kernels.cu", 0, nullptr, nullptr), "nvrtcCreateProgram");
    std::vector<const char*> pointers;
    for (auto& option : options) pointers.push_back(option.c_str());
    const int result = libraries.compile(program, int(pointers.size()), pointers.data());
    auto text = [&](Libraries::Size* size, Libraries::Get* get) {
      size_t length = 0;
      check(size(program, &length), "the size of what NVRTC made");
      std::string own(length, '\0');
      check(get(program, own.data()), "what NVRTC made");
      return own;
    };
    TORCH_CHECK(result == 0, "kernels.cu: ", text(libraries.log_size, libraries.log));
    auto image = text(libraries.binary_size, libraries.binary);
    libraries.destroy(&program);
    return image;
  }

  template <typename... Parameters>
  void start(void* function, const Tensor& on, std::pair<int64_t, int64_t> grid, Parameters... parameters) const {
    void* list[] = {&parameters...};
    c10::impl::VirtualGuardImpl guard(on.device().type());
    void* stream = guard.getStreamNativeHandle(guard.getStream(on.device()));
    check(libraries.launch(function, unsigned(grid.first), unsigned(grid.second), 1, kThreads, 1, 1, 0, stream, list, nullptr), "cuLaunchKernel");
  }
};

// Compiled when they are first asked for; for the life of the process.
const Kernels& kernels(const Tensor& on, int64_t width, at::ScalarType type) {
  static const Libraries libraries;
  static std::mutex lock;
  static std::map<std::tuple<int, int64_t, bool>, Kernels> all;
  std::lock_guard<std::mutex> guard(lock);
  const bool half = type == at::kHalf;
  return all.try_emplace({on.device().index(), width, half}, libraries, on.device().index(), width, half).first->second;
}

template <typename T>
T* pointer(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

using Sixteen = unsigned short;
using Whole = long long;

}  // namespace

void norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y, Places places, const Tensor& means, const Tensor& deviations,
          double epsilon) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  if (rows == 0) return;
  auto& own = kernels(x, width, y.scalar_type());
  own.start(own.norm, x, {(rows + kWarps - 1) / kWarps, 1}, pointer<const float>(x), pointer<const float>(weight), pointer<const float>(bias), pointer<Sixteen>(y),
            pointer<float>(means), pointer<float>(deviations), Whole(rows), Whole(places.tokens), Whole(places.pitch), Whole(places.offset), float(epsilon));
}

int64_t rows_at_once(const Tensor& on, int64_t width, at::ScalarType type) { return kernels(on, width, type).processors * 2 * kWarps; }

std::pair<Tensor, Tensor> pull_norm(const Tensor& of_y, Places places, const Tensor& x, const Tensor& means, const Tensor& deviations, const Tensor& weight,
                                    const Tensor& beside, const Tensor& of_x) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  if (rows == 0) return {at::zeros_like(weight), at::zeros_like(weight)};
  auto& own = kernels(x, width, of_y.scalar_type());
  // Each block has sums of its own.
  const int64_t blocks = (std::min(rows, rows_at_once(x, width, of_y.scalar_type())) + kWarps - 1) / kWarps;
  auto of_weight = at::empty({blocks, width}, x.options()), of_bias = at::empty({blocks, width}, x.options());
  own.start(own.pull_norm, x, {blocks, 1}, pointer<const Sixteen>(of_y), pointer<const float>(x), pointer<const float>(means), pointer<const float>(deviations),
            pointer<const float>(weight), pointer<const float>(beside), pointer<float>(of_x), pointer<float>(of_weight), pointer<float>(of_bias), Whole(rows),
            Whole(places.tokens), Whole(places.pitch), Whole(places.offset));
  return {of_weight.sum(0), of_bias.sum(0)};
}

Tensor pull_gelu(const Tensor& units, const Tensor& gradient) {
  const int64_t rows = units.size(0), columns = units.size(1);
  if (rows == 0) return gradient.sum(0);
  auto& own = kernels(units, kAnyWidth, units.scalar_type());
  const int64_t across = (columns / 4 + kThreads - 1) / kThreads;
  const int64_t down = std::min(rows, std::max<int64_t>(1, 8 * own.processors / across));
  auto sums = at::empty({down, columns}, units.options().dtype(at::kFloat));
  own.start(own.pull_gelu, units, {across, down}, pointer<const Sixteen>(units), pointer<Sixteen>(gradient), pointer<float>(sums), Whole(rows), Whole(columns));
  return sums.sum(0).to(units.scalar_type());
}

Tensor drop(const Tensor& x, const Tensor& seeds, const Drop& rule) {
  auto y = at::empty_like(x);
  const Lines lines(x);
  if (lines.all == 0) return y;
  auto& own = kernels(x, kAnyWidth, x.scalar_type());
  const std::pair<int64_t, int64_t> grid{(lines.all + kWarps - 1) / kWarps, 1};
  auto drop = [&](void* kernel, auto* from, auto* to) {
    own.start(kernel, x, grid, from, to, pointer<const Whole>(seeds), Whole(lines.all), Whole(lines.of_row), Whole(lines.tokens), Whole(lines.width),
              Whole(rule.place), rule.limit(), float(rule.scale()));
  };
  if (x.scalar_type() == at::kFloat) {
    drop(own.drop_float, pointer<const float>(x), pointer<float>(y));
  } else {
    drop(own.drop, pointer<const Sixteen>(x), pointer<Sixteen>(y));
  }
  return y;
}

}  // namespace medst::gpu
