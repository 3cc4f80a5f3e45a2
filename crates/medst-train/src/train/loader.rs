//! Batches prepared ahead of the model, in order.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use tch::Device;

use super::dataset::{Crop, Dataset};
use crate::Result;
use crate::model::input::Batch;

/// Threads that make batches of a run ahead of the model.
pub const THREADS: usize = 2;

/// Batches that each thread holds ready.
const AHEAD: usize = 2;

/// An iterator over the batches of an epoch. Threads end when it is dropped.
pub struct Loader<T = Batch> {
    /// Thread `n` makes batches `n`, `n + threads`, …
    channels: Vec<Receiver<Result<T>>>,
    next: usize,
}

impl Loader {
    /// Starts threads that make `batches` (lists of sequence numbers) in order, for a device.
    pub fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        dataset: &'env Dataset<'env>,
        batches: Vec<Vec<usize>>,
        crop: Crop,
        threads: usize,
        device: Device,
    ) -> Loader {
        let whole = |numbers: Vec<usize>| (0..numbers.len(), numbers);
        Loader::of_shares(scope, dataset, batches.into_iter().map(whole).collect(), crop, threads, device)
    }

    /// Like [`Loader::start`], but reads only some sequences of each batch, given as pairs `(range,
    /// batch)`; see [`Dataset::share`].
    pub fn of_shares<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        dataset: &'env Dataset<'env>,
        batches: Vec<(Range<usize>, Vec<usize>)>,
        crop: Crop,
        threads: usize,
        device: Device,
    ) -> Loader {
        Loader::spawn(scope, batches, threads, move |(share, numbers)| {
            dataset.share(&numbers, share, crop).map(|batch| batch.ready_for(device))
        })
    }
}

impl<T: Send> Loader<T> {
    /// Starts threads that `make` something of each of `jobs`, in order.
    pub fn spawn<'scope, 'env, J: Clone + Send + 'env>(
        scope: &'scope Scope<'scope, 'env>,
        jobs: Vec<J>,
        threads: usize,
        make: impl Fn(J) -> Result<T> + Copy + Send + 'env,
    ) -> Loader<T>
    where
        T: 'env,
    {
        let threads = threads.min(jobs.len()).max(1);
        let channels = (0..threads).map(|thread| {
            let of_thread: Vec<J> = jobs.iter().skip(thread).step_by(threads).cloned().collect();
            let (sender, receiver) = sync_channel(AHEAD);
            scope.spawn(move || {
                for job in of_thread {
                    if sender.send(make(job)).is_err() {
                        return; // the receiver was dropped
                    }
                }
            });
            receiver
        });
        Loader { channels: channels.collect(), next: 0 }
    }
}

impl<T> Iterator for Loader<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let batch = self.channels[self.next].recv().ok();
        self.next = (self.next + 1) % self.channels.len();
        batch
    }
}
