//! A resumed run equals an uninterrupted one. Alone in its program, because dropout draws from the engine's generator, which
//! is one for all threads.

mod bench;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bench::Bench;
use medst::config::Config;
use medst::train::log::{self, Entry};
use medst::train::{Ending, pretrain};
use medst_data::progress::{Progress, Silent};
use tch::Device;

/// Stops after a number of optimiser steps.
struct StopAfter(u64, AtomicU64);

impl Progress for StopAfter {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, count: u64) {
        self.1.fetch_add(count, Ordering::Relaxed);
    }
    fn stop_requested(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }
}

/// Every logged number but the speeds.
fn numbers(run: &Path) -> Vec<BTreeMap<String, serde_json::Value>> {
    let entries = log::read(&run.join("metrics.jsonl")).unwrap();
    let plain = |entry: &Entry| serde_json::from_value(serde_json::to_value(entry).unwrap()).unwrap();
    let mut rows: Vec<BTreeMap<String, serde_json::Value>> = entries.iter().map(plain).collect();
    rows.iter_mut().for_each(|row| drop(row.remove("studies_per_second")));
    rows
}

/// One after the other: both draw from the engine's one generator.
#[test]
fn a_resumed_run_gives_the_numbers_of_an_uninterrupted_one() {
    for precision in ["float32", "bfloat16"] {
        in_precision(precision);
    }
}

fn in_precision(precision: &str) {
    let bench = Bench::new(24);
    let precision = format!("train.precision={precision}");
    let config = |name: &str| bench.config(name, &["train.epochs=3", &precision]);
    let whole = config("whole");
    pretrain(&whole, false, Device::Cpu, &Silent).unwrap();
    let broken = config("broken");
    // Twice: within the first epoch, and later, each time at another place.
    let mut resume = false;
    for steps in [2, 3] {
        let stop = StopAfter(steps + if resume { 2 } else { 0 }, AtomicU64::new(0));
        assert_eq!(pretrain(&broken, resume, Device::Cpu, &stop).unwrap().ending, Ending::Stopped);
        resume = true;
    }
    assert_eq!(pretrain(&broken, true, Device::Cpu, &Silent).unwrap().ending, Ending::Finished);
    let (a, b) = (numbers(&whole.train.output), numbers(&broken.train.output));
    assert!(a.len() > 6, "the run is long enough to be interrupted");
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b);
    }
    for file in ["last/model.safetensors", "last/optimizer.safetensors", "last/state.json"] {
        let read = |config: &Config| std::fs::read(config.train.output.join(file)).unwrap();
        assert!(read(&whole) == read(&broken), "{file} differs");
    }
}
