//! The sum of a tensor over all processes, and rows gathered of all, with gradient
//! (`ops/reduce.cpp`).

use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use tch::Tensor;

use super::Group;
use crate::ops::{panic_message, pointer, take};

unsafe extern "C" {
    fn medst_sum_over_ranks(
        x: *const c_void,
        group: *mut c_void,
        sum: extern "C" fn(*const c_void, *const c_void) -> *mut c_char,
        release: extern "C" fn(*mut c_void),
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn medst_gathered_rows(
        own: *const c_void,
        all: *const c_void,
        first: i64,
        group: *mut c_void,
        sum: extern "C" fn(*const c_void, *const c_void) -> *mut c_char,
        release: extern "C" fn(*mut c_void),
        error: *mut *mut c_char,
    ) -> *mut c_void;
}

/// `Σ_r x_r` over the processes `r`, from which each computes what concerns its own part of the
/// batch. The gradient with respect to a process's own `x` is the sum of the gradients that all of
/// them found.
pub fn sum_over_ranks(x: &Tensor, group: &Group) -> Tensor {
    let handle = Box::into_raw(Box::new(Group::clone(group)));
    // SAFETY: the tensor lives, the handle is a box of `Group` that `release` takes over, and both
    // functions expect that type.
    take(|error| unsafe { medst_sum_over_ranks(pointer(x), handle.cast(), sum, release, error) })
}

/// `all`, whose rows from `first` on are `own`, for what each process computes for its own part of
/// the batch. The gradient with respect to `own` is the sum of the gradients that all processes
/// found, which takes a sum of as many numbers as `all` has.
pub(super) fn gathered_rows(own: &Tensor, all: &Tensor, first: i64, group: &Group) -> Tensor {
    let handle = Box::into_raw(Box::new(Group::clone(group)));
    // SAFETY: as above.
    take(|error| unsafe { medst_gathered_rows(pointer(own), pointer(all), first, handle.cast(), sum, release, error) })
}

/// Returns null, or a message of `strdup` where the sum panicked: a panic must not unwind through
/// C++.
extern "C" fn sum(group: *const c_void, tensor: *const c_void) -> *mut c_char {
    // SAFETY: what `sum_over_ranks` gave, and a tensor that lives through this call, of which the
    // handle made here is a further one.
    let (group, mut tensor) = unsafe { (&*group.cast::<Group>(), Tensor::clone_from_ptr(tensor.cast_mut().cast())) };
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| group.sum(&mut tensor))) else { return null_mut() };
    let message = CString::new(format!("a sum over all processes: {}", panic_message(&*panic))).unwrap_or_default();
    // SAFETY: copies a C string.
    let copy = unsafe { libc::strdup(message.as_ptr()) };
    if copy.is_null() {
        // Out of memory; null would mean success.
        std::process::abort();
    }
    copy
}

extern "C" fn release(group: *mut c_void) {
    // SAFETY: the box that `sum_over_ranks` let go of; called once.
    drop(unsafe { Box::from_raw(group.cast::<Group>()) });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use medst_data::ranks::Ranks;
    use tch::{Device, Kind};

    use super::*;
    use crate::distributed::{Communicator, Traffic};
    use crate::ops::guarded;

    /// A group whose sums fail.
    #[derive(Debug)]
    struct Broken;

    impl Ranks for Broken {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            2
        }

        fn gather_bytes(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
            vec![bytes.to_vec(); 2]
        }
    }

    impl Communicator for Broken {
        fn sum(&self, _: &mut Tensor) {
            panic!("the network is gone");
        }

        fn gather(&self, own: &Tensor, _: &[i64]) -> Tensor {
            own.shallow_clone()
        }

        fn broadcast(&self, _: &mut Tensor) {}

        fn traffic(&self) -> Traffic {
            Traffic::default()
        }
    }

    #[test]
    fn a_sum_that_panics_is_an_error_forwards_and_backwards() {
        let group: Group = Arc::new(Broken);
        let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let forwards = guarded(|| Ok(sum_over_ranks(&x, &group)));
        let gathered = gathered_rows(&x, &Tensor::ones([4, 3], (Kind::Float, Device::Cpu)), 0, &group);
        let backwards = guarded(|| Ok(Tensor::run_backward(&[gathered.sum(None::<Kind>)], &[&x], false, false)));
        for message in [forwards.unwrap_err().to_string(), backwards.unwrap_err().to_string()] {
            assert!(message.contains("the network is gone"), "{message}");
        }
    }
}
