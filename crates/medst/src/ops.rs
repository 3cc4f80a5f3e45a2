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
