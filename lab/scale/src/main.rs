//! What more processes bring, by the model of [`forecast`]: the tables of `docs/scale.md`.
//!
//! * `simulate_scale measured=docs/scale/measured.json out=docs/scale` compares the model with what
//!   `tools/scale.sh` measured, predicts for machines that were not available (`machines.rs`), and
//!   writes `tables.md` (`make scale`).
//! * `simulate_scale describe=CORPUS` prints what a corpus's training batches are made of, as JSON;
//!   `simulate_scale pairs=STUDIES [own=STUDIES]` measures the time and memory of the loss over all
//!   pairs. `tools/scale.sh` uses both.

#[path = "../../../crates/medst/examples/workload/mod.rs"]
mod workload;

mod forecast;
mod here;
mod machines;
mod tables;
// The test of traffic needs all of it.
#[allow(dead_code)]
mod volume;

use std::path::Path;
use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_model::config::Config;
use medst_model::loss::config::LossConfig;
use medst_model::loss::global;
use medst_model::loss::scale::Scale;
use medst_model::model::projection::unit;
use medst_train::train::dataset::{Crop, Dataset};
use tch::{Device, Kind, Tensor};
use workload::{Workload, resident_bytes};

fn main() -> medst_model::Result<()> {
    let workload = Workload::from_arguments()?;
    if !workload.word("describe", "").is_empty() {
        return describe(Path::new(workload.word("describe", "")), &workload);
    }
    if !workload.word("pairs", "").is_empty() {
        let studies = workload.number("pairs", 0)?;
        pairs(studies, workload.number("own", studies)?);
        return Ok(());
    }
    let (measured, out) = (workload.word("measured", "docs/scale/measured.json"), workload.word("out", "docs/scale"));
    let text = std::fs::read_to_string(measured).map_err(medst_model::Error::io(Path::new(measured)))?;
    let measured: here::Measured = serde_json::from_str(&text)
        .map_err(|error| medst_model::Error::Config(format!("{measured}: {error}; tools/scale.sh makes it")))?;
    tables::write(&measured, Path::new(out))
}

/// Lengths of sequences, lateral views, tokens and words of the training split.
fn describe(path: &Path, workload: &Workload) -> medst_model::Result<()> {
    let pieces = WordPiece::bert_cased();
    let before = resident_bytes("VmRSS:");
    let corpus = Corpus::open(path)?;
    let mut config = Config::default();
    config.model.image.size = config.model.image.size.min(corpus.image_size() as i64);
    let dataset = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data)?;
    let held = resident_bytes("VmRSS:").saturating_sub(before) / corpus.studies().len() as u64;
    let count = dataset.sequences.len();
    let longest = dataset.sequences.iter().map(Vec::len).max().unwrap_or(0);
    let share = |length: usize| {
        dataset.sequences.iter().filter(|sequence| sequence.len() == length).count() as f64 / count as f64
    };
    let (mut studies, mut laterals, mut tokens, mut words) = (0i64, 0usize, 0i64, 0i64);
    for numbers in (0..count).collect::<Vec<_>>().chunks(16) {
        let batch = dataset.batch(numbers, Crop::Centre)?;
        let load = workload.load(&batch);
        studies += load.tokens.len() as i64;
        laterals += load.laterals.iter().filter(|&&has_lateral| has_lateral).count();
        tokens += load.tokens.iter().sum::<i64>();
        words += load.words.iter().sum::<i64>();
    }
    let lengths: Vec<f64> = (1..=longest).map(share).collect();
    let described = serde_json::json!({
        "lengths": lengths, "laterals": laterals as f64 / studies as f64, "tokens": tokens / studies, "words": words / studies,
        "studies": corpus.studies().len(), "resident_bytes_per_study": held,
    });
    println!("{described}");
    Ok(())
}

/// Seconds and memory of the loss over all pairs, forward and backward, as far as a process with
/// `rows` of the studies computes it.
fn pairs(studies: i64, rows: i64) {
    tch::manual_seed(1);
    let draw = || unit(&Tensor::randn([studies, 128], (Kind::Float, Device::Cpu))).set_requires_grad(true);
    let (image, report) = (draw(), draw());
    let before = resident_bytes("VmRSS:");
    let mut seconds = f64::MAX;
    for _ in 0..2 {
        let start = Instant::now();
        let loss = global::part(&image, &report, &(0..rows), &Scale::fixed(0.07), &LossConfig::default()).loss;
        let _ = Tensor::run_backward(&[loss], &[&image, &report], false, false);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    let bytes = resident_bytes("VmHWM:").saturating_sub(before);
    println!("{}", serde_json::json!({ "studies": studies, "rows": rows, "seconds": seconds, "bytes": bytes }));
}
