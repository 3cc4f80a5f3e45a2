//! What passes between Rust and the C++ of `ops/`: pointers to `at::Tensor`, and messages.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tch::{TchError, Tensor};

use crate::{Error, Result};

unsafe extern "C" {
    fn medst_whole(parts: *const *const c_void, count: usize, error: *mut *mut c_char) -> *mut c_void;
    fn medst_pinned(x: *const c_void, error: *mut *mut c_char) -> *mut c_void;
}

/// The flat tensor, on the same memory, of which these are consecutive parts; `None` where they are
/// not adjacent.
pub fn whole(parts: &[Tensor]) -> Option<Tensor> {
    let pointers: Vec<*const c_void> = parts.iter().map(pointer).collect();
    // SAFETY: the list is of living tensors.
    let whole = take(|error| unsafe { medst_whole(pointers.as_ptr(), pointers.len(), error) });
    whole.defined().then_some(whole)
}

/// A copy in pinned memory, which a GPU reads directly while the host continues. Needs a GPU.
pub(crate) fn pinned(x: &Tensor) -> Tensor {
    // SAFETY: the tensor lives through the call.
    take(|error| unsafe { medst_pinned(pointer(x), error) })
}

/// The `at::Tensor` of a tensor of `tch`.
pub fn pointer(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

/// Takes over a message.
///
/// # Safety
/// `error` is null, or a C string of `strdup` that nothing else frees.
unsafe fn message(error: *mut c_char) -> String {
    if error.is_null() {
        return "an operation failed without a message".to_string();
    }
    // SAFETY: as the caller promises.
    unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        libc::free(error.cast());
        message
    }
}

thread_local! {
    /// Whether this thread is within [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The error of an operation of `ops/`, on its way to [`guarded`].
struct Fault(String);

/// Runs work with libtorch and returns what its operations fail with as an error. Those of `tch`
/// and those of `ops/` have no result for it, since they are parts of expressions: they panic.
/// Other panics go on their way.
///
/// # Errors
/// Those of the work; [`Error::Engine`] where an operation failed, such as when memory runs out.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.unwrap_or_else(|panic| match fault(&*panic) {
        Some(message) => Err(Error::Engine(TchError::Torch(message))),
        None => resume_unwind(panic),
    })
}

/// The message of an operation's panic: its first line, which a trace of C++ functions follows.
fn fault(panic: &(dyn Any + Send)) -> Option<String> {
    if let Some(Fault(message)) = panic.downcast_ref() {
        return Some(message.trim_start().lines().next().unwrap_or_default().to_string());
    }
    // `tch` unwraps its results.
    let (_, error) = panic.downcast_ref::<String>()?.split_once("on an `Err` value: Torch(\"")?;
    Some(error.split("\\n").next().unwrap_or(error).trim_end_matches("\")").to_string())
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<Fault>(), panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(Fault(message)), ..) | (_, Some(message), _) => message,
        (.., Some(message)) => message,
        _ => "it panicked",
    }
}

/// Ends the operation: silently where [`guarded`] turns it into an error, else as any panic.
fn fail(message: String) -> ! {
    if GUARDED.get() {
        resume_unwind(Box::new(Fault(message)));
    }
    panic!("{message}");
}

/// Panics with the message that a function returned, if it did.
///
/// # Safety
/// `error` is null, or as `message` takes it.
pub unsafe fn check(error: *mut c_char) {
    if !error.is_null() {
        // SAFETY: as the caller promises.
        fail(unsafe { message(error) });
    }
}

/// Takes over the tensor that a function made.
pub(crate) fn take(call: impl FnOnce(*mut *mut c_char) -> *mut c_void) -> Tensor {
    let mut error = std::ptr::null_mut();
    let made = call(&mut error);
    if made.is_null() {
        // SAFETY: where it returns null the function leaves a C string of `strdup`, which is ours
        // to free.
        fail(unsafe { message(error) });
    }
    // SAFETY: the pointer is a new `at::Tensor` that nothing else refers to.
    unsafe { Tensor::from_ptr(made.cast()) }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::{guarded, whole};
    use crate::Error;
    use crate::model::layers::linear;

    #[test]
    fn what_an_operation_fails_with_is_an_error_where_work_is_guarded() {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let (x, weight, bias) = (zeros(&[2, 3]), zeros(&[4, 5]), zeros(&[4]));
        let ours = guarded(|| Ok(linear(&x, &weight, &bias)));
        let theirs = guarded(|| Ok(x.matmul(&weight)));
        for failed in [ours, theirs] {
            let Err(Error::Engine(error)) = failed else { panic!("{failed:?}") };
            let said = error.to_string();
            assert!(said.contains("shapes") && !said.contains('\n'), "{said}");
        }
        assert_eq!(guarded(|| Ok(linear(&x, &zeros(&[4, 3]), &bias))).unwrap().size(), [2, 4]);
        let panic = std::panic::catch_unwind(|| guarded(|| -> crate::Result<()> { panic!("a bug in medst") }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"a bug in medst"));
    }

    #[test]
    fn parts_that_lie_one_behind_the_other_are_one() {
        let flat = Tensor::arange(12, (Kind::Float, Device::Cpu));
        let part = |start: i64, shape: &[i64]| flat.narrow(0, start, shape.iter().product()).view(shape);
        let all = whole(&[part(2, &[2, 2]), part(6, &[3]), part(9, &[1])]).unwrap();
        assert_eq!(Vec::<f32>::try_from(&all).unwrap(), (2..10).map(|n| n as f32).collect::<Vec<_>>());
        let _ = all.shallow_clone().fill_(0.0);
        assert_eq!(flat.sum(None::<Kind>).double_value(&[]), 1.0 + 10.0 + 11.0);
        let another = Tensor::zeros([3], (Kind::Float, Device::Cpu));
        for apart in
            [vec![part(2, &[2]), part(5, &[2])], vec![part(2, &[2]), another], vec![part(0, &[2, 2]).tr()], vec![]]
        {
            assert!(whole(&apart).is_none(), "{apart:?}");
        }
    }
}
