//! `mpirun -n N medst pretrain`: several processes compute the steps of one, and end together.
//!
//! Built with the feature `mpi` only. Where there is no `mpirun` these tests skip, saying so,
//! unless `MEDST_NEED_MPI` is set.
#![cfg(feature = "mpi")]

#[path = "../../../medst/tests/bench/beyond.rs"]
mod beyond;
mod cluster;
#[path = "../command/mod.rs"]
mod command;
mod hosts;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use beyond::BEYOND_THE_PAPER;
use command::processes::{launcher, start};
use command::{SMALL, difference, run, tiny, with};
use serde_json::Value;
use tch::Tensor;

fn corpus() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw", "--subjects", "30", "--size", "64"], 0);
    run(at, &["-q", "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "64"], 0);
    folder
}

/// The number of processes changes only rounding. In float64 rounding stays below what a mistake
/// would change; in float32 the steep reverse mapping amplifies it within some steps until it
/// cannot be distinguished from a mistake (docs/performance.md).
const EXACT: &[&str] = &["train.precision=float64", "model.text.dropout=0.2", "data.corpus=corpus"];

fn pretrain(settings: &[&str], more: &[&str]) -> Vec<String> {
    let settings = [SMALL, EXACT, settings].concat();
    let configuration = tiny();
    let arguments = with(&[&["-q", "pretrain", &configuration], more].concat(), &settings);
    arguments.iter().map(ToString::to_string).collect()
}

fn done(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// Lines of a run of one kind.
fn lines(run: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| line["kind"] == kind).collect()
}

fn weights(run: &Path) -> Vec<(String, Tensor)> {
    let mut all = Tensor::read_safetensors(run.join("last/model.safetensors")).unwrap();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Steps that several processes compute as one does.
const STEPS: usize = 12;

/// Trains in one process and in several; all must agree.
fn agree(at: &Path, name: &str, settings: &[&str], several: &[usize]) {
    let trained = |processes: usize| {
        let output = format!("{name}-{processes}");
        let target = format!("train.output={output}");
        let child = start(at, processes, &pretrain(&[settings, &[&target]].concat(), &[]));
        done(child.wait_with_output().unwrap());
        at.join(output)
    };
    let alone = trained(1);
    assert_eq!(lines(&alone, "train").len(), STEPS);
    for &processes in several {
        let other = trained(processes);
        for kind in ["train", "validate"] {
            let (expected, others) = (lines(&alone, kind), lines(&other, kind));
            assert_eq!(expected.len(), others.len());
            assert!(!expected.is_empty());
            for (a, b) in expected.iter().zip(&others) {
                let off = difference(a, b, |a, b| (a - b).abs());
                assert!(off < 1e-5, "{processes} processes, off by {off:e}\n{a}\n{b}");
            }
        }
        for ((name, a), (other, b)) in weights(&alone).iter().zip(&weights(&other)) {
            assert_eq!(name, other);
            let off = (a - b).abs().max().double_value(&[]);
            // AdamW moves a weight by the learning rate (1e-3) regardless of the size of its
            // gradient. If the gradient is zero except for rounding, AdamW divides the rounding
            // error by its own size. This happens to biases in front of a batch normalisation.
            let bound = if name.ends_with(".bias") { 2e-2 } else { 1e-5 };
            assert!(off < bound, "{processes} processes, {name} off by {off:e}");
        }
    }
}

#[test]
fn several_processes_compute_the_steps_of_one() {
    if !launcher() {
        return;
    }
    let folder = corpus();
    let at = folder.path();
    let steps = format!("train.max_steps={STEPS}");
    let long = [steps.as_str(), "train.epochs=40"];
    // 7 sequences per batch: divisible by neither 2 nor 4, and not a divisor of the number of
    // subjects.
    agree(at, "uneven", &[&long[..], &["train.sequences_per_batch=7"]].concat(), &[2, 4]);
    assert!(
        lines(&at.join("uneven-1"), "train")
            .iter()
            .any(|line| line["studies"] != lines(&at.join("uneven-1"), "train")[0]["studies"])
    );
    // An average of the weights, which is what is validated and kept.
    let averaged = ["train.average=0.9", "train.sequences_per_batch=7"];
    agree(at, "averaged", &[&long[..], &averaged[..]].concat(), &[2]);
    assert!(at.join("averaged-2/last/trained.safetensors").exists());
    // Everything beyond the paper.
    let beyond = [BEYOND_THE_PAPER, &["loss.boxes_weight=1.0", "data.short_sequences=true"]].concat();
    agree(at, "beyond", &[&long[..], &beyond[..], &["train.sequences_per_batch=7"]].concat(), &[2]);
    // One process has no study.
    agree(at, "empty", &[&long[..], &beyond[..], &["train.sequences_per_batch=1"]].concat(), &[2]);
    assert!(lines(&at.join("beyond-1"), "train").iter().any(|line| line["phrases"] != 0.0 && line["courses"] != 0.0));
    // Batches without a full sequence, processes without a study or without a lateral view.
    let longer = ["--out", "longer", "--image-size", "64", "--sequence-length", "6"];
    run(at, &[&["-q", "prepare", "table", "raw/studies.csv"][..], &longer].concat(), 0);
    let sparse = ["train.sequences_per_batch=3", "data.corpus=longer"];
    agree(at, "sparse", &[&long[..], &sparse[..]].concat(), &[4]);
    let steps = lines(&at.join("sparse-1"), "train");
    assert!(steps.iter().any(|line| line["forward_mapping"] == 0.0), "every batch had a full sequence");
    assert!(steps.iter().any(|line| line["forward_mapping"] != 0.0), "no batch had one");
}

#[test]
fn a_process_that_dies_ends_the_job_and_the_run_goes_on_with_fewer() {
    if !launcher() {
        return;
    }
    let folder = corpus();
    let at = folder.path();
    let settings = ["train.sequences_per_batch=7", "train.epochs=16", "train.output=run"];
    let child = start(at, 3, &pretrain(&settings, &[]));
    let begun = Instant::now();
    // Until a checkpoint can be resumed from.
    while !at.join("run/last/model.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(50));
    }
    let process = Command::new("pgrep").args(["-P", &child.id().to_string(), "medst"]).output().unwrap();
    let victim = String::from_utf8_lossy(&process.stdout).lines().last().expect("a process of the job").to_string();
    Command::new("kill").args(["-9", &victim]).status().unwrap();
    let killed = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(killed.elapsed() < Duration::from_secs(30), "the others waited for it");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("medst: process") || said.contains("signal 9"), "{said}");

    // Another configuration is refused, by all, at once.
    let other = pretrain(&[&settings[..], &["optimizer.lr=0.5"]].concat(), &["--resume"]);
    let output = start(at, 2, &other).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("medst: process 0 of 2"), "{said}");

    let child = start(at, 2, &pretrain(&settings, &["--resume"]));
    done(child.wait_with_output().unwrap());
    let steps: Vec<u64> = lines(&at.join("run"), "train").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    let last = *steps.last().unwrap();
    assert_eq!(steps, (1..=last).collect::<Vec<u64>>());
    assert_eq!(last % 16, 0, "not all epochs");
}
