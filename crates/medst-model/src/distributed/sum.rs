//! The sum of a tensor over all processes, and rows gathered of all, with gradient (`ops/reduce.cpp`).

use std::ffi::{c_char, c_void};

use tch::Tensor;

use super::Group;
use crate::ops::{pointer, take};

unsafe extern "C" {
    fn medst_sum_over_ranks(
        x: *const c_void,
        group: *mut c_void,
        sum: extern "C" fn(*const c_void, *const c_void),
        release: extern "C" fn(*mut c_void),
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn medst_gathered_rows(
        own: *const c_void,
        all: *const c_void,
        first: i64,
        group: *mut c_void,
        sum: extern "C" fn(*const c_void, *const c_void),
        release: extern "C" fn(*mut c_void),
        error: *mut *mut c_char,
    ) -> *mut c_void;
}

/// `Σ_r x_r` over the processes `r`, from which each computes what concerns its own part of the
/// batch. The gradient with respect to a process's own `x` is the sum of the gradients that all of
/// them found.
pub fn sum_over_ranks(x: &Tensor, group: &Group) -> Tensor {
    let handle = Box::into_raw(Box::new(Group::clone(group)));
    // SAFETY: the tensor lives, the handle is a box of `Group` that `release` takes over, and both functions expect that type.
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

extern "C" fn sum(group: *const c_void, tensor: *const c_void) {
    // SAFETY: what `sum_over_ranks` gave, and a tensor that lives through this call, of which the handle made here is a further one.
    let (group, mut tensor) = unsafe { (&*group.cast::<Group>(), Tensor::clone_from_ptr(tensor.cast_mut().cast())) };
    group.sum(&mut tensor);
}

extern "C" fn release(group: *mut c_void) {
    // SAFETY: the box that `sum_over_ranks` let go of; called once.
    drop(unsafe { Box::from_raw(group.cast::<Group>()) });
}
