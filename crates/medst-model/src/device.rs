//! Where to compute.

use tch::{Cuda, Device, Tensor};

/// The libtorch that the bindings are made for; they refuse to be built against another.
pub const ENGINE: &str = "2.11.0";

/// The first CUDA device, if the installed libtorch supports CUDA and finds one.
///
/// The program links only the CPU part of libtorch. A wheel with CUDA also has `libtorch_cuda.so`,
/// which registers itself when it is loaded, so the same binary runs on both kinds of machine.
pub fn cuda() -> Option<Device> {
    load_cuda_library();
    Cuda::is_available().then_some(Device::Cuda(0))
}

/// A tensor on a device. The host does not wait until a GPU has it; what the GPU computes with it
/// comes after it all the same.
pub fn send(x: &Tensor, device: Device) -> Tensor {
    // From a GPU to the host the host has to wait: it may read at once.
    x.to_device_(device, x.kind(), device != Device::Cpu, false)
}

/// Numbers of rows, `[n]` int64, on a device; as [`send`].
pub fn send_rows(rows: &[i64], device: Device) -> Tensor {
    send(&Tensor::from_slice(rows), device)
}

/// Loads `libtorch_cuda.so` for the whole process, once; does nothing if it does not exist.
fn load_cuda_library() {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the name is a valid C string; the library is libtorch's own and only registers
        // its kernels. The handle is kept for the life of the process.
        unsafe {
            libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
        }
    });
}

unsafe extern "C" {
    fn medst_allow_tf32(allow: bool);
}

/// Makes a GPU multiply float32 in the backward passes of layers in TF32 (factors with float16's 10
/// bits after the point, sums in float32), or exactly. Applies to the whole process.
pub fn allow_tf32(allow: bool) {
    // SAFETY: it sets a flag of libtorch.
    unsafe { medst_allow_tf32(allow) }
}

/// Bytes of the current CUDA device that are in use, by whomever; `None` where CUDA's runtime is
/// not loaded.
pub fn used_bytes() -> Option<u64> {
    // SAFETY: the name is a valid C string; the function found has the signature of
    // `cudaMemGetInfo` and writes two numbers.
    unsafe {
        let function = libc::dlsym(libc::RTLD_DEFAULT, c"cudaMemGetInfo".as_ptr());
        if function.is_null() {
            return None;
        }
        let memory_info: extern "C" fn(*mut usize, *mut usize) -> i32 = std::mem::transmute(function);
        let (mut free, mut total) = (0, 0);
        (memory_info(&mut free, &mut total) == 0).then(|| (total - free) as u64)
    }
}
