//! `medst card`: documents of a model and a corpus, from what the program knows of them.

use std::path::Path;

use assert_cmd::Command;

fn run(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = Command::cargo_bin("medst").unwrap().current_dir(folder).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(output.status.code(), Some(code), "medst {arguments:?}\n{}", text(&output.stderr));
    text(if code == 0 { &output.stdout } else { &output.stderr })
}

const SMALL: [&str; 10] = [
    "data.corpus=corpus",
    "train.output=run",
    "train.max_steps=1",
    "train.licence=CC-BY-4.0",
    "model.image.size=48",
    "model.image.width=32",
    "model.image.depth=1",
    "model.image.heads=2",
    "model.text.layers=1",
    "train.sequences_per_batch=4",
];

#[test]
fn cards_say_what_is_known_and_ask_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/tiny.toml").display().to_string();
    run(at, &["phantom", "cohort", "--subjects", "24", "--size", "96"], 0);
    run(at, &["prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "64"], 0);
    let settings = SMALL.iter().flat_map(|setting| ["--set", setting]);
    run(at, &["pretrain", &tiny].into_iter().chain(settings).collect::<Vec<_>>(), 0);
    run(
        at,
        &[
            "eval",
            "retrieval",
            "--model",
            "run",
            "--corpus",
            "corpus",
            "--out",
            "report",
            "--replicates",
            "20",
            "--no-pictures",
        ],
        0,
    );

    let card = run(at, &["card", "corpus"], 0);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at.join("corpus/corpus.json")).unwrap()).unwrap();
    let counts = &manifest["counts"];
    assert!(card.contains(&format!("| subjects | {} |", counts["subjects"])), "{card}");
    assert!(card.contains("medst prepare table") && card.contains("studies.csv"), "{card}");
    assert!(!card.contains("{{"), "{card}");

    run(at, &["card", "run", "--evaluation", "report/results.json", "--out", "card.md"], 0);
    let card = std::fs::read_to_string(at.join("card.md")).unwrap();
    for words in [
        "# Model card: run",
        "license: cc-by-4.0",
        "From random weights.",
        "| optimiser steps | 1 |",
        "retrieval | report to image",
        &format!("{} studies of {} subjects", counts["studies"], counts["subjects"]),
        "no medical device",
        "Best validation",
    ] {
        assert!(card.contains(words), "{words}:\n{card}");
    }
    assert!(!card.contains("{{"), "{card}");

    let error = run(at, &["card", "cohort"], 1);
    assert!(error.contains("neither a run nor a checkpoint"), "{error}");
    let error = run(at, &["card", "run", "--evaluation", "corpus/corpus.json"], 2);
    assert!(error.contains("no results.json"), "{error}");
}
