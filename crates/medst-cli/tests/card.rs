//! `medst card`: the cards of a model and of a corpus, filled in from what the program has recorded
//! about them.

mod command;

use std::path::Path;

use command::{SMALL, run, tiny, with};

/// What it prints; if it fails, its error.
fn said(folder: &Path, arguments: &[&str], code: i32) -> String {
    let (out, err) = run(folder, arguments, code);
    if code == 0 { out } else { err }
}

#[test]
fn cards_say_what_is_known_and_ask_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    said(at, &["phantom", "cohort", "--subjects", "24", "--size", "96"], 0);
    said(at, &["prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "64"], 0);
    let settings = ["data.corpus=corpus", "train.output=run", "train.max_steps=1"];
    said(at, &with(&["pretrain", &tiny()], &[SMALL, &settings].concat()), 0);
    said(
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

    let card = said(at, &["card", "corpus"], 0);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at.join("corpus/corpus.json")).unwrap()).unwrap();
    let counts = &manifest["counts"];
    assert!(card.contains(&format!("| subjects | {} |", counts["subjects"])), "{card}");
    assert!(card.contains("medst prepare table") && card.contains("studies.csv"), "{card}");
    assert!(!card.contains("{{"), "{card}");

    // tools/croissant_check.sh has the same metadata judged by mlcroissant.
    let croissant: serde_json::Value =
        serde_json::from_str(&said(at, &["card", "corpus", "--format", "croissant"], 0)).unwrap();
    assert_eq!(croissant["conformsTo"][0], "http://mlcommons.org/croissant/1.0");
    let files = croissant["distribution"].as_array().unwrap();
    assert_eq!(files.len(), manifest["files"].as_object().unwrap().len());
    for file in files {
        assert_eq!(file["sha256"], manifest["files"][file["contentUrl"].as_str().unwrap()]["sha256"], "{file}");
    }
    for set in croissant["recordSet"].as_array().unwrap() {
        for field in set["field"].as_array().unwrap() {
            let (id, column) = (field["@id"].as_str().unwrap(), field["source"]["extract"]["column"].as_str().unwrap());
            assert_eq!(id, format!("{}/{column}", set["@id"].as_str().unwrap()));
            assert!(files.iter().any(|file| file["@id"] == field["source"]["fileObject"]["@id"]), "{field}");
        }
    }
    for property in ["dataCollection", "dataBiases", "personalSensitiveInformation", "dataLimitations", "dataUseCases"]
    {
        assert!(!croissant[format!("rai:{property}")].is_null(), "{property}");
    }

    said(at, &["card", "run", "--evaluation", "report/results.json", "--out", "card.md"], 0);
    let card = std::fs::read_to_string(at.join("card.md")).unwrap();
    for words in [
        "# Model card: run",
        "license: unknown",
        "Trained from random weights.",
        "| optimiser steps | 1 |",
        "retrieval | report to image",
        &format!("{} studies of {} subjects", counts["studies"], counts["subjects"]),
        "not a medical device",
        "Best validation",
    ] {
        assert!(card.contains(words), "{words}:\n{card}");
    }
    assert!(!card.contains("{{"), "{card}");

    said(at, &["convert", "run", "--licence", "cc-by-4.0", "--out", "licensed"], 0);
    let licensed = said(at, &["card", "licensed"], 0);
    assert!(licensed.contains("license: cc-by-4.0"), "{licensed}");

    let error = said(at, &["card", "run", "--format", "croissant"], 1);
    assert!(error.contains("corpus.json"), "{error}");
    let error = said(at, &["card", "cohort"], 1);
    assert!(error.contains("not a run or checkpoint"), "{error}");
    let error = said(at, &["card", "run", "--evaluation", "corpus/corpus.json"], 2);
    assert!(error.contains("not a results.json"), "{error}");
}
