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
    let files = ["last/model.safetensors", "last/optimizer.safetensors", "last/state.json"];
    for precision in ["train.precision=float32", "train.precision=bfloat16", "train.precision=float16"] {
        resumes(&[precision], &files);
    }
    // A teacher remembers more than the weights and their moments.
    let taught = ["loss.soft_targets=0.5", "loss.soft_target_similarity=momentum", "loss.soft_target_momentum=0.8"];
    let bench = resumes(&taught, &[&files[..], &["last/teacher.safetensors"]].concat());
    let config = bench.config("broken", &[&["train.epochs=3"], &taught[..]].concat());
    std::fs::remove_file(config.train.output.join("last/teacher.safetensors")).unwrap();
    let error = pretrain(&config, true, Device::Cpu, &Silent).unwrap_err().to_string();
    assert!(error.contains("teacher.safetensors"), "{error}");

    // It changes what is learnt from the first step on, and is no part of what validation measures.
    let plain = bench.config("plain", &["train.epochs=1"]);
    let validated = bench
        .config("taught", &[&["train.epochs=1", "optimizer.lr=1e-30", "optimizer.min_lr=0"], &taught[..]].concat());
    let still = bench.config("still", &["train.epochs=1", "optimizer.lr=1e-30", "optimizer.min_lr=0"]);
    let first = |config: &Config, kind: &str| {
        pretrain(config, false, Device::Cpu, &Silent).ok();
        let rows = numbers(&config.train.output);
        rows.into_iter().find(|row| row["kind"] == kind).unwrap()["global"].as_f64().unwrap()
    };
    let of = |config: &Config| (first(config, "train"), first(config, "validate"));
    let (plain, taught, still) = (of(&plain), of(&validated), of(&still));
    assert_eq!(plain.0, still.0);
    assert!((taught.0 - still.0).abs() > 1e-3, "{taught:?} {still:?}");
    assert!((taught.1 - still.1).abs() < 1e-4, "{taught:?} {still:?}");
}

/// Interrupts a run with these settings twice and compares it, and these files of it, with an uninterrupted one.
fn resumes(settings: &[&str], files: &[&str]) -> Bench {
    let bench = Bench::new(24);
    let config = |name: &str| bench.config(name, &[&["train.epochs=3"], settings].concat());
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
    for file in files {
        let read = |config: &Config| std::fs::read(config.train.output.join(file)).unwrap();
        assert!(read(&whole) == read(&broken), "{file} differs");
    }
    bench
}
