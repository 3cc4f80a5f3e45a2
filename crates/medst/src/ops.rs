//! What passes between Rust and the C++ of `ops/`: pointers to `at::Tensor`, and messages.

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;

/// The engine's tensor behind one of the bindings.
pub(crate) fn pointer(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

/// Takes over a message.
///
/// # Safety
/// `error` is a C string of `strdup` that nobody else frees.
pub(crate) unsafe fn message(error: *mut c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        libc::free(error.cast());
        message
    }
}

/// Takes over the tensor that a function made.
pub(crate) fn take(call: impl FnOnce(*mut *mut c_char) -> *mut c_void) -> Tensor {
    let mut error = std::ptr::null_mut();
    let made = call(&mut error);
    if made.is_null() {
        // SAFETY: where it returns null the function leaves a C string of `strdup`, which is ours to free.
        panic!("{}", unsafe { message(error) });
    }
    // SAFETY: the pointer is a new `at::Tensor` of which nobody else knows.
    unsafe { Tensor::from_ptr(made.cast()) }
}
