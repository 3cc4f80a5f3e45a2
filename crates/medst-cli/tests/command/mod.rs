//! The real binary, as people run it, and the settings of a model that is small enough for a test.

#![allow(dead_code)] // Each test uses a part.

pub mod processes;
#[cfg(feature = "s3")]
pub mod storage;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

/// Settings that make a model small enough for a test.
pub const SMALL: &[&str] = &[
    "model.image.size=48",
    "model.image.patch=16",
    "model.image.hidden_size=32",
    "model.image.num_layers=1",
    "model.image.num_heads=2",
    "model.image.intermediate_size=64",
    "model.text.hidden_size=32",
    "model.text.num_layers=1",
    "model.text.num_heads=2",
    "model.text.intermediate_size=64",
    "model.projection.hidden=48",
    "model.projection.embedding=32",
    "train.sequences_per_batch=4",
];

pub fn medst(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("medst").unwrap();
    command.current_dir(folder);
    command
}

/// Runs the command; checks the exit code; returns standard output and standard error.
pub fn run(folder: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = medst(folder).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "medst {arguments:?}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The configuration of a run that takes minutes; with [`SMALL`] it takes seconds.
pub fn tiny() -> String {
    repository().join("configs/tiny.toml").display().to_string()
}

/// Arguments, and settings as `--set`.
pub fn with<'a>(arguments: &[&'a str], settings: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().chain(settings.iter().flat_map(|setting| ["--set", *setting])).collect()
}

/// The folder of inputs that are not in the repository, such as real radiographs.
pub fn shared() -> PathBuf {
    std::env::var_os("MEDST_SHARED_DIR").map_or_else(|| repository().join("../shared"), PathBuf::from)
}

/// The largest distance, by `apart`, of any number of two lines of metrics but speeds.
pub fn difference(a: &Value, b: &Value, apart: fn(f64, f64) -> f64) -> f64 {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().filter(|key| *key != "studies_per_second");
            keys.map(|key| difference(&a[key], &b[key], apart)).fold(0.0, f64::max)
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).map(|(a, b)| difference(a, b, apart)).fold(0.0, f64::max)
        }
        (Value::Array(_), _) | (_, Value::Array(_)) => f64::INFINITY,
        _ => apart(a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(f64::from(u8::from(a.is_number())))),
    }
}
