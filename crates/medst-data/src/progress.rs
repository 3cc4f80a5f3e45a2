//! How long work reports its progress and learns that it should stop, without depending on a
//! terminal.

use std::sync::atomic::{AtomicBool, Ordering};

/// Receives the progress of a long job. Implementations must be cheap: they are called once per
/// item.
pub trait Progress: Sync {
    /// A phase begins: what it does and, where known, how many items it has.
    fn begin(&self, what: &str, total: Option<u64>);
    /// `count` more items are done.
    fn advance(&self, count: u64);
    /// The phase is over.
    fn end(&self) {}
    /// The state of the phase, in a few words that replace the last ones.
    fn status(&self, _words: &str) {}
    /// A line worth showing, such as the state of a training run.
    fn note(&self, _line: &str) {}
    /// True when the job should stop at the next safe point.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Reports nothing and never stops.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _count: u64) {}
}

/// Passes on a stop request and shows nothing: for work that has no place on another job's progress
/// bar, or for a process that does not report.
pub struct Quiet<'a>(pub &'a dyn Progress);

impl Progress for Quiet<'_> {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _count: u64) {}
    fn stop_requested(&self) -> bool {
        self.0.stop_requested()
    }
}

/// Reports nothing, but stops once its flag is set.
#[derive(Default)]
pub struct Stoppable(pub AtomicBool);

impl Progress for Stoppable {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _count: u64) {}
    fn stop_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
