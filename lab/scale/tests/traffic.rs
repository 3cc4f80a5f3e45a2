//! The traffic that processes count is what the configuration predicts. Needs `mpirun`, and a
//! `medst` with the feature `mpi` (`ALL=1 make build`, or MEDST=FILE); skips, with a message,
//! without them.

// The test needs a few of its functions only.
#[allow(dead_code)]
#[path = "../src/volume.rs"]
mod volume;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use medst_model::config::Config;
use medst_model::distributed::Traffic;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn medst() -> PathBuf {
    std::env::var_os("MEDST").map_or(root().join("target/release/medst"), PathBuf::from)
}

fn run(at: &Path, processes: usize, arguments: &[&str]) -> Output {
    let mut command = match processes {
        1 => Command::new(medst()),
        _ => {
            let mut command = Command::new("mpirun");
            command.args(["--oversubscribe", "-n", &processes.to_string()]).arg(medst());
            command
        }
    };
    let root = [("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"), ("OMP_NUM_THREADS", "1")];
    let output = command.args(arguments).current_dir(at).envs(root).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The lines of a run's log of one kind.
fn lines(run: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["kind"] == kind).collect()
}

/// To the byte.
#[test]
fn what_is_passed_follows_from_the_configuration() {
    let several = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if !several || !medst().exists() {
        println!("skipped: mpirun or {} is missing", medst().display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, 1, &["-q", "phantom", "raw", "--subjects", "30", "--size", "128"]);
    run(at, 1, &["-q", "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "128"]);
    let tiny = root().join("configs/tiny.toml").display().to_string();
    let train = |name: &str, processes: usize, settings: &[&str]| {
        let target = format!("train.output={name}");
        let fixed = ["data.corpus=corpus", "train.precision=float64", "model.text.dropout=0.2", &target];
        let all: Vec<&str> = fixed.iter().chain(settings).flat_map(|setting| ["--set", setting]).collect();
        let output = run(at, processes, &[&["-q", "--json", "pretrain", &tiny][..], &all].concat());
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let traffic = summary.get("traffic").map(|own| serde_json::from_value::<Traffic>(own.clone()).unwrap());
        (Config::load(&at.join(name).join("config.toml"), &[]).unwrap(), traffic)
    };
    // Two epochs, a validation and a checkpoint after each, and a checkpoint at the end.
    let short = ["train.sequences_per_batch=7", "train.epochs=2"];
    for (name, processes, settings) in [
        ("one", 1, &[][..]),
        ("two", 2, &[][..]),
        ("four", 4, &[]),
        ("float", 2, &["train.precision=float32", "model.image.num_layers=2", "model.text.num_layers=3"]),
        ("chunks", 2, &["train.encode_studies=2"]),
        ("averaged", 2, &["train.average=0.9"]),
    ] {
        let (config, counted) = train(name, processes, &[&short[..], settings].concat());
        let steps = lines(&at.join(name), "train");
        let validations = lines(&at.join(name), "validate");
        let mut expected = volume::start(&config) + volume::checkpoint() + volume::end();
        for step in &steps {
            expected = expected + volume::step(&config, step["studies"].as_u64().unwrap());
        }
        for line in &validations {
            let studies = line["retrieval"]["studies"].as_u64().unwrap();
            expected = expected + volume::validation(&config, studies) + volume::checkpoint();
        }
        assert_eq!(validations.len(), 2);
        assert_eq!(counted, (processes > 1).then_some(expected), "{name}");
    }
}
