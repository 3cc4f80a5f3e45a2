// How a GPU multiplies float32 in backward passes.
//
// Called from src/device.rs.

#include "tf32.h"

#include <ATen/Context.h>

#include <atomic>

namespace medst {
namespace {

std::atomic<bool> allowed{false};

}  // namespace

Tf32::Tf32(const at::Tensor& x) : before(at::globalContext().allowTF32CuBLAS()) {
  if (allowed && x.is_cuda()) at::globalContext().setAllowTF32CuBLAS(true);
}

Tf32::~Tf32() { at::globalContext().setAllowTF32CuBLAS(before); }

}  // namespace medst

extern "C" void medst_allow_tf32(bool allow) { medst::allowed = allow; }
