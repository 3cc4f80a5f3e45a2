//! A resumed run equals an uninterrupted one. It is the only test in this program, because dropout
//! draws from libtorch's generator, which all threads share.

mod bench;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bench::Bench;
use bench::beyond::BEYOND_THE_PAPER;
use medst_data::progress::{Progress, Silent};
use medst_data::split::Split;
use medst_model::config::Config;
use medst_model::distributed::alone;
use medst_model::model::weights::TensorFile;
use medst_model::open::open_model;
use medst_train::train::dataset::Dataset;
use medst_train::train::log::{self, Entry};
use medst_train::train::validate::validate;
use medst_train::train::{Ending, pretrain};
use tch::{Device, Tensor};

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

/// One after the other, because both draw from libtorch's only generator.
#[test]
fn a_resumed_run_gives_the_numbers_of_an_uninterrupted_one() {
    let files = ["last/model.safetensors", "last/optimizer.safetensors", "last/state.json"];
    for precision in ["train.precision=float32", "train.precision=bfloat16", "train.precision=float16"] {
        resumes(&[precision], &files);
    }
    // Everything beyond the paper at once. Both forms of the global loss learn the temperature;
    // only this one learns the bias.
    let more = [
        "loss.global=sigmoid",
        "data.short_sequences=true",
        "train.average=0.9",
        "loss.temporal_weight=0.05",
        "optimizer.clip_norm=1.0",
    ];
    resumes(&[BEYOND_THE_PAPER, &more].concat(), &[&files[..], &["last/trained.safetensors"]].concat());
    // An average of the weights is what is judged and used; the trained weights are kept with it.
    let averaged = ["train.average=0.9"];
    let bench = resumes(&averaged, &[&files[..], &["last/trained.safetensors"]].concat());
    let config = bench.config("broken", &[&["train.epochs=3"], &averaged[..]].concat());
    std::fs::remove_file(config.train.output.join("last/trained.safetensors")).unwrap();
    let error = pretrain(&config, true, Device::Cpu, &alone(), &Silent).unwrap_err().to_string();
    assert!(error.contains("trained.safetensors"), "{error}");

    // Averaging does not change training, but it does change what validation measures.
    let plain = bench.config("plain", &["train.epochs=3"]);
    pretrain(&plain, false, Device::Cpu, &alone(), &Silent).unwrap();
    let whole = bench.config("whole", &["train.epochs=3"]);
    let read = |config: &Config, file: &str| std::fs::read(config.train.output.join(file)).unwrap();
    assert_eq!(weights(&plain, "model.safetensors"), weights(&whole, "trained.safetensors"));
    assert_ne!(weights(&plain, "model.safetensors"), weights(&whole, "model.safetensors"));
    assert!(read(&plain, "last/optimizer.safetensors") == read(&whole, "last/optimizer.safetensors"));
    assert!(!plain.train.output.join("last/trained.safetensors").exists());
    let of = |config: &Config, kind: &str| -> Vec<_> {
        numbers(&config.train.output).into_iter().filter(|row| row["kind"] == kind).collect()
    };
    assert_eq!(of(&plain, "train"), of(&whole, "train"));
    assert_ne!(of(&plain, "validate"), of(&whole, "validate"));

    // Validation saw the very weights that are used.
    let opened = open_model(&whole.train.output.join("last"), Device::Cpu).unwrap();
    let corpus = bench.corpus();
    let validation = Dataset::new(&corpus, &opened.pieces, Split::Validate, &whole.model, &whole.data).unwrap();
    let found = validate(&opened.model, &validation, &whole.loss, whole.train.sequences_per_batch, &alone()).unwrap();
    let last = of(&whole, "validate").pop().unwrap();
    assert_eq!(Some(found.unwrap().losses.total), last["total"].as_f64());
}

/// The tensors of a file of the last checkpoint, by name.
fn weights(config: &Config, file: &str) -> BTreeMap<String, Tensor> {
    TensorFile::read(&config.train.output.join("last").join(file)).unwrap().tensors
}

/// Interrupts a run with these settings twice and compares it, and these files of it, with an
/// uninterrupted one.
fn resumes(settings: &[&str], files: &[&str]) -> Bench {
    let bench = Bench::new(24);
    let config = |name: &str| bench.config(name, &[&["train.epochs=3"], settings].concat());
    let whole = config("whole");
    pretrain(&whole, false, Device::Cpu, &alone(), &Silent).unwrap();
    let broken = config("broken");
    // Twice: within the first epoch, and later, each time at another place.
    let mut resume = false;
    for steps in [2, 3] {
        let stop = StopAfter(steps + if resume { 2 } else { 0 }, AtomicU64::new(0));
        assert_eq!(pretrain(&broken, resume, Device::Cpu, &alone(), &stop).unwrap().unwrap().ending, Ending::Stopped);
        resume = true;
    }
    assert_eq!(pretrain(&broken, true, Device::Cpu, &alone(), &Silent).unwrap().unwrap().ending, Ending::Finished);
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
