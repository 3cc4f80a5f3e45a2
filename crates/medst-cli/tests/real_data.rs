//! The main job on real radiographs: table, corpus, pre-training, embeddings, inspection, with the
//! real binary. Skipped if the open collection is not available (`MEDST_SHARED_DIR`, by default
//! `../shared`).

mod command;

use std::path::Path;

fn medst(at: &Path, arguments: &[&str]) -> String {
    command::run(at, arguments, 0).0
}

#[test]
fn real_radiographs_are_prepared_learnt_and_embedded() {
    let table = command::shared().join("data/open-cxr/studies.csv");
    if !table.exists() {
        println!("skipped: {} is not here", table.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (table, config) = (table.display().to_string(), command::tiny());
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
