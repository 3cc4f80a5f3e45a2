//! The main job on real radiographs: table, corpus, pre-training, embeddings, inspection, with the real binary. Skipped
//! where the open collection is not at hand (`MEDST_SHARED_DIR`, by default `../shared`).

use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn medst(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::cargo_bin("medst").unwrap().current_dir(folder).args(arguments).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "medst {arguments:?}\n{err}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn real_radiographs_are_prepared_learnt_and_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let shared = std::env::var_os("MEDST_SHARED_DIR").map_or_else(|| root.join("../shared"), PathBuf::from);
    let table = shared.join("data/open-cxr/studies.csv");
    if !table.exists() {
        println!("skipped: {} is not here", table.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (table, config) = (table.display().to_string(), root.join("configs/tiny.toml").display().to_string());
    let prepared = medst(at, &["prepare", "table", &table, "--out", "corpus", "--image-size", "128"]);
    assert!(prepared.contains("93 images"), "{prepared}");
    let settings = [
        "data.corpus=corpus",
        "train.output=run",
        "train.epochs=60",
        "train.max_steps=80",
        "train.sequences_per_batch=12",
    ];
    let mut arguments = vec!["--json", "pretrain", &config];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let summary: serde_json::Value = serde_json::from_str(&medst(at, &arguments)).unwrap();
    let total = |when: &str| summary[when]["total"].as_f64().unwrap();
    assert!(total("last") < 0.7 * total("first"), "loss {} to {}", total("first"), total("last"));
    let embedded = medst(at, &["embed", "corpus", "--model", "run", "--out", "embeddings.parquet"]);
    assert!(embedded.contains("studies"), "{embedded}");
    assert!(medst(at, &["inspect", "run"]).contains("training loss"));
    assert!(medst(at, &["inspect", "corpus"]).contains("with a lateral view"));
}
