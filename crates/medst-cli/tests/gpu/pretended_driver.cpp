// A pretended `libcuda.so.1` and `libnvrtc.so.13` in one: kernels.cu, which a compiler for GPUs would have got from the program, is compiled in here (as
// kernels_for_the_host.inc, without C names), and a launch runs it on the host. Every thread of a block is a fiber; they go on in turns from one meeting
// point (a shuffle among a warp, a barrier of the block) to the next. It is compiled so that an address that a GPU would not load from ends the program.
//
// MEDST_PRETENDED_GPU_IDLE=NAME: that kernel does nothing.

#include <dlfcn.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

struct Index {
  unsigned x, y, z;
};

Index threadIdx, blockIdx, blockDim, gridDim;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool done = false;
};

struct Block {
  ucontext_t home;
  std::vector<Fiber> fibers;
  std::vector<float> shuffled;
  unsigned arrived = 0, passed = 0;
  std::function<void()> body;
};

Block* block = nullptr;

void wait() {
  const Index own = threadIdx;
  swapcontext(&block->fibers[own.x].context, &block->home);
  threadIdx = own;
}

float __shfl_xor_sync(unsigned, float x, int distance) {
  // All lanes of a warp make the same shuffles in the same order, so one turn each lets all have written, another all have read.
  block->shuffled[threadIdx.x] = x;
  wait();
  const float other = block->shuffled[threadIdx.x ^ unsigned(distance)];
  wait();
  return other;
}

void __syncthreads() {
  const unsigned generation = block->passed;
  if (++block->arrived == blockDim.x) block->arrived = 0, block->passed++;
  while (block->passed == generation) wait();
}

void enter() {
  block->body();
  block->fibers[threadIdx.x].done = true;
}

void run(Index grid, Index threads, std::function<void()> body) {
  gridDim = grid, blockDim = threads;
  Block own;
  own.body = std::move(body);
  own.shuffled.resize(threads.x);
  own.fibers.resize(threads.x);
  for (auto& fiber : own.fibers) fiber.stack.resize(64 << 10);
  block = &own;
  for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
      own.arrived = own.passed = 0;
      for (auto& fiber : own.fibers) {
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack = {fiber.stack.data(), 0, fiber.stack.size()};
        fiber.context.uc_link = &own.home;
        makecontext(&fiber.context, enter, 0);
      }
      for (unsigned left = threads.x; left > 0;) {
        left = 0;
        for (unsigned n = 0; n < threads.x; n++) {
          if (own.fibers[n].done) continue;
          threadIdx = {n, 0, 0};
          swapcontext(&own.home, &own.fibers[n].context);
          left += !own.fibers[n].done;
        }
      }
    }
  }
  block = nullptr;
}

#define EMULATED
#define __device__
#define __global__
#define __launch_bounds__(...)
#define __shared__ static
#define erff std::erf
#define expf std::exp
#define sqrtf std::sqrt

float of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

namespace brain {
float wide(unsigned short x) { return of_bits(uint32_t(x) << 16); }
unsigned short narrow(float x) {
  uint32_t bits = bits_of(x);
  return (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
}  // namespace brain

namespace half {
float wide(unsigned short x) {
  _Float16 own;
  std::memcpy(&own, &x, 2);
  return float(own);
}
unsigned short narrow(float x) {
  _Float16 own = _Float16(x);
  unsigned short bits;
  std::memcpy(&bits, &own, 2);
  return bits;
}
}  // namespace half

// For each width and type that a test may have.
namespace brain_128 {
using brain::narrow;
using brain::wide;
#define WIDTH 128
#include "kernels_for_the_host.inc"
#undef WIDTH
}  // namespace brain_128

namespace half_128 {
using half::narrow;
using half::wide;
#define WIDTH 128
#include "kernels_for_the_host.inc"
#undef WIDTH
}  // namespace half_128

namespace brain_768 {
using brain::narrow;
using brain::wide;
#define WIDTH 768
#include "kernels_for_the_host.inc"
#undef WIDTH
}  // namespace brain_768

namespace half_768 {
using half::narrow;
using half::wide;
#define WIDTH 768
#include "kernels_for_the_host.inc"
#undef WIDTH
}  // namespace half_768

template <typename... T, size_t... n>
void call(void (*kernel)(T...), void** parameters, std::index_sequence<n...>) {
  kernel(*static_cast<std::remove_reference_t<T>*>(parameters[n])...);
}

template <typename... T>
std::function<void(void**)> caller(void (*kernel)(T...)) {
  return [kernel](void** parameters) { call(kernel, parameters, std::index_sequence_for<T...>()); };
}

// What the pretended libtorch keeps of it.
using Note = void(const char* name, int64_t read, int64_t written);

struct Kernel {
  std::function<void(void**)> call;
  std::string name;
  int64_t width;

  // As kernels.cu says: the bytes of float32 and of sixteen bits of a row.
  void count(void** parameters) const {
    static auto* note = reinterpret_cast<Note*>(dlsym(RTLD_DEFAULT, "medst_pretended_note"));
    auto whole = [&](int n) { return int64_t(*static_cast<long long*>(parameters[n])); };
    if (!note) return;
    if (name == "medst_norm") note(name.c_str(), whole(6) * width * 4, whole(6) * width * 2);
    if (name == "medst_pull_norm") note(name.c_str(), whole(9) * width * 10, whole(9) * width * 4);
    if (name == "medst_pull_gelu") note(name.c_str(), whole(3) * whole(4) * 4, whole(3) * whole(4) * 2);
    if (name == "medst_drop") note(name.c_str(), whole(3) * whole(6) * 2, whole(3) * whole(6) * 2);
    if (name == "medst_drop_float") note(name.c_str(), whole(3) * whole(6) * 4, whole(3) * whole(6) * 4);
  }
};

Kernel* find(const std::string& program, const std::string& name) {
  const char* idle = std::getenv("MEDST_PRETENDED_GPU_IDLE");
  auto made = [&](std::function<void(void**)> call) {
    if (idle && name == idle) call = [](void**) {};
    return new Kernel{std::move(call), name, std::stoll(program.substr(program.find('_') + 1))};
  };
#define OF(space)                                                               \
  if (program == #space && name == "medst_norm") return made(caller(space::medst_norm));                \
  if (program == #space && name == "medst_pull_norm") return made(caller(space::medst_pull_norm));      \
  if (program == #space && name == "medst_pull_gelu") return made(caller(space::medst_pull_gelu));      \
  if (program == #space && name == "medst_drop") return made(caller(space::medst_drop));                \
  if (program == #space && name == "medst_drop_float") return made(caller(space::medst_drop_float));
  OF(brain_128) OF(half_128) OF(brain_768) OF(half_768)
  return nullptr;
}

}  // namespace

extern "C" {

// The "program" is the name of a width and type.
int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) {
  *program = new std::string;
  return 0;
}

int nvrtcCompileProgram(void* program, int count, const char* const* options) {
  std::string width, type = "brain";
  for (int n = 0; n < count; n++) {
    const std::string option = options[n];
    if (option.rfind("-DWIDTH=", 0) == 0) width = option.substr(8);
    if (option == "-DHALF") type = "half";
  }
  *static_cast<std::string*>(program) = type + "_" + width;
  return find(type + "_" + width, "medst_norm") ? 0 : 6;
}

int nvrtcGetProgramLogSize(void*, size_t* size) { return *size = 60, 0; }
int nvrtcGetProgramLog(void*, char* text) { return std::strncpy(text, "the pretended compiler does not have this width", 60), 0; }
int nvrtcGetCUBINSize(void* program, size_t* size) { return *size = static_cast<std::string*>(program)->size() + 1, 0; }
int nvrtcGetCUBIN(void* program, char* image) { return std::strcpy(image, static_cast<std::string*>(program)->c_str()), 0; }
int nvrtcDestroyProgram(void** program) { return delete static_cast<std::string*>(*program), *program = nullptr, 0; }

int cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == 16 ? 3 : attribute == 75 ? 9 : 0;
  return 0;
}

int cuModuleLoadData(void** module, const void* image) {
  *module = new std::string(static_cast<const char*>(image));
  return 0;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = find(*static_cast<std::string*>(module), name);
  return *function ? 0 : 500;
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, unsigned, void*,
                   void** parameters, void**) {
  if (grid_z != 1 || block_y != 1 || block_z != 1) return 1;
  auto* kernel = static_cast<Kernel*>(function);
  kernel->count(parameters);
  run({grid_x, grid_y, 1}, {block_x, 1, 1}, [=] { kernel->call(parameters); });
  return 0;
}

}
