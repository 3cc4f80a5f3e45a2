//! `medst eval` as people type it: on a model, on other programs' embeddings, on what cannot be
//! evaluated.

mod command;

use std::fs;
use std::path::Path;

use command::{run, shared, tiny, with};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// A figure of a printed evaluation.
fn figure(evaluation: &serde_json::Value, corpus: usize, task: &str, group: &str, name: &str) -> f64 {
    let tasks = evaluation["corpora"][corpus]["tasks"].as_array().unwrap();
    let result = tasks.iter().find(|result| result["task"] == task).unwrap_or_else(|| panic!("no {task}"));
    let figures = result["figures"].as_array().unwrap();
    let found = figures.iter().find(|figure| figure["group"] == group && figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {group} {name} in {figures:?}"))["value"].as_f64().unwrap()
}

/// A tiny model, pre-trained for some steps on a corpus.
fn pretrain(at: &Path, corpus: &str, run_folder: &str, settings: &[&str]) {
    let settings_of_run = [format!("data.corpus={corpus}"), format!("train.output={run_folder}")];
    let all: Vec<&str> = settings_of_run.iter().map(String::as_str).chain(settings.iter().copied()).collect();
    run(at, &with(&["-q", "pretrain", &tiny()], &all), 0);
}

/// Random weights.
const UNTRAINED: [&str; 1] = ["train.max_steps=0"];

#[test]
fn the_benchmarks_layouts_are_evaluated_and_mistakes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layouts = "table,mimic-cxr-jpg,ms-cxr-t,rsna,covidx";
    run(at, &["-q", "phantom", "raw", "--subjects", "60", "--size", "140", "--layout", layouts], 0);
    let prepare = |arguments: &[&str]| {
        run(at, &[&["-q", "prepare"], arguments, &["--image-size", "128"]].concat(), 0);
    };
    prepare(&["table", "raw/table/studies.csv", "--out", "table"]);
    prepare(&["ms-cxr-t", "raw/ms-cxr-t", "--images", "raw/mimic-cxr-jpg", "--out", "ms-cxr-t"]);
    prepare(&["rsna", "raw/rsna", "--out", "rsna"]);
    prepare(&["covidx", "raw/covidx", "--out", "covidx"]);
    pretrain(at, "table", "model", &UNTRAINED);

    let corpora = ["--corpus", "table", "--corpus", "ms-cxr-t", "--corpus", "rsna", "--corpus", "covidx"];
    let all = [&["eval", "all", "--model", "model", "--out", "report", "--replicates", "50"], &corpora[..]].concat();
    let (out, err) = run(at, &all, 0);
    for task in
        ["temporal-image", "temporal-sentence", "zero-shot", "linear-probe", "retrieval", "progression", "grounding"]
    {
        assert!(out.contains(&format!("  {task}")), "{task}\n{out}");
    }
    assert!(out.contains("report/report.html") && err.contains("encoding studies"), "{out}\n{err}");
    let page = fs::read_to_string(at.join("report/report.html")).unwrap();
    assert!(
        page.contains("as published") && page.contains("60.57") == page.contains("60.6 %"),
        "the published figure is shown where one exists"
    );
    assert!(page.contains("medst eval all --model model"), "the command");
    let written = json(&fs::read_to_string(at.join("report/results.json")).unwrap());
    let printed = json(&run(at, &[&["--json"], &all[..]].concat(), 0).0);
    assert_eq!(written["corpora"], printed["corpora"], "the same command gives the same figures");

    let reference =
        ["--json", "eval", "temporal-image", "temporal-sentence", "--model", "model", "--corpus", "ms-cxr-t"];
    let reference = json(&run(at, &[&reference[..], &["--protocol", "reference"]].concat(), 0).0);
    figure(&reference, 0, "temporal-sentence", "all", "accuracy, reference threshold");
    figure(&reference, 0, "temporal-image", "mean", "accuracy, 5 folds, shuffled with 666");

    run(at, &["eval", "all", "--corpus", "rsna", "--list-texts", "texts.txt"], 0);
    let texts = fs::read_to_string(at.join("texts.txt")).unwrap();
    assert!(texts.lines().any(|line| line == "This opacity can represent pneumonia"), "{texts}");

    fs::write(at.join("broken.npy"), b"\x93NUMPY\x01\x00oops").unwrap();
    let on = |task: &'static str, corpus: &'static str| ["eval", task, "--model", "model", "--corpus", corpus];
    for (arguments, code, expected) in [
        (&on("nonsense", "rsna")[..], 2, "temporal-image"),
        (&on("retrieval", "nowhere")[..], 1, "nowhere"),
        (&on("temporal-image", "rsna")[..], 1, "pairs.csv"),
        (&[&on("linear-probe", "rsna")[..], &["--label", "colour"]].concat()[..], 1, "no study has a label colour"),
        (
            &[&on("linear-probe", "covidx")[..], &["--split", "train"]].concat()[..],
            1,
            "cannot be tested on its training split",
        ),
        (&["eval", "all", "--corpus", "rsna"][..], 2, "--model"),
        (&["eval", "retrieval", "--corpus", "rsna", "--model", "rsna"][..], 1, "not a run or checkpoint"),
        (&["eval", "retrieval", "--corpus", "rsna", "--embeddings", "broken.npy"][..], 1, "broken.npy: not a NumPy"),
    ] {
        let (_, err) = run(at, arguments, code);
        assert!(err.contains(expected), "{arguments:?}: {expected}\n{err}");
    }
}

#[test]
fn the_literatures_protocols_and_subgroups_are_a_command_each() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layouts = "table,mimic-cxr-jpg,ms-cxr-t,chexpert";
    run(at, &["-q", "phantom", "raw", "--subjects", "60", "--size", "140", "--layout", layouts], 0);
    let prepare = |arguments: &[&str]| {
        run(at, &[&["-q", "prepare"], arguments, &["--image-size", "128"]].concat(), 0);
    };
    prepare(&["table", "raw/table/studies.csv", "--out", "table"]);
    prepare(&["ms-cxr-t", "raw/ms-cxr-t", "--images", "raw/mimic-cxr-jpg", "--out", "ms-cxr-t"]);
    prepare(&["chexpert", "raw/chexpert", "--out", "chexpert"]);
    pretrain(at, "table", "model", &UNTRAINED);
    let eval = |arguments: &[&str]| {
        let command = ["-q", "--json", "eval", "--model", "model", "--replicates", "50"];
        json(&run(at, &[&command[..], arguments].concat(), 0).0)
    };

    let literature = ["--protocol", "literature"];
    let pairs = eval(&[&["temporal-image", "progression", "--corpus", "ms-cxr-t"], &literature[..]].concat());
    // There are so few pairs that some seeds leave a finding without pairs to test on; its figure
    // then gives that reason.
    let tasks = pairs["corpora"][0]["tasks"].as_array().unwrap();
    let heads = tasks.iter().find(|result| result["task"] == "temporal-image").unwrap()["figures"].as_array().unwrap();
    for readout in ["concatenation", "difference"] {
        let named = heads.iter().filter(|figure| figure["name"] == format!("macro accuracy, {readout}"));
        let named: Vec<&serde_json::Value> = named.filter(|figure| figure["group"] != "mean").collect();
        assert_eq!(named.len(), 5, "a figure for each finding");
        assert!(named.iter().all(|figure| figure["value"].is_number() || figure["undefined"].is_string()), "{named:?}");
    }
    for column in ["standard", "reversed", "combined", "consistency"] {
        assert!((0.0..=1.0).contains(&figure(&pairs, 0, "progression", "mean", column)));
    }
    let grounding = eval(&[&["grounding", "--corpus", "table"], &literature[..]].concat());
    let strict = eval(&["grounding", "--corpus", "table"]);
    let of = |result: &serde_json::Value, group: &str, name: &str| figure(result, 0, "grounding", group, name);
    let ratio = "contrast-to-noise ratio, signed";
    // The same maps, but for the rounding of products of other shapes.
    assert!((of(&grounding, "words", ratio) - of(&strict, "all phrases", ratio)).abs() < 1e-6);
    for variant in ["words", "words, smoothed", "sentence vector", "sentence vector, smoothed"] {
        of(&grounding, variant, "mean IoU");
        of(&grounding, variant, "AUROC, shown against not, by the hottest pixel");
    }
    let smoothed = of(&grounding, "sentence vector, smoothed", ratio);
    assert_ne!(smoothed, of(&grounding, "sentence vector", ratio));

    // Every figure of a probe by sex and by age group, from the command to the page.
    let by = ["linear-probe", "--corpus", "chexpert", "--by", "sex", "--by", "Age", "--out", "report"];
    let probe = eval(&[&by[..], &literature[..]].concat());
    figure(&probe, 0, "linear-probe", "nearest neighbours", "AUROC");
    let plain = eval(&[&["linear-probe", "--corpus", "chexpert"], &literature[..]].concat());
    let figures = |result: &serde_json::Value| result["corpora"][0]["tasks"][0]["figures"].as_array().unwrap().clone();
    let (broken_down, whole) = (figures(&probe), figures(&plain));
    assert_eq!(broken_down.len(), whole.len());
    for (a, b) in broken_down.iter().zip(&whole) {
        assert_eq!((&a["name"], &a["value"], &a["interval"]), (&b["name"], &b["value"], &b["interval"]));
    }
    let accuracy =
        broken_down.iter().find(|figure| figure["group"] == "100 %" && figure["name"] == "accuracy").unwrap();
    let [sex, age] = [&accuracy["by"][0], &accuracy["by"][1]];
    assert_eq!((sex["column"].as_str(), age["column"].as_str()), (Some("Sex"), Some("Age")));
    let rows: u64 = sex["parts"].as_array().unwrap().iter().map(|part| part["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, accuracy["rows"].as_u64().unwrap(), "every study has a sex");
    assert_eq!(sex["parts"][0]["name"], "Female");
    assert_eq!(sex["parts"][0]["small"], true, "a test split of a few subjects");
    let page = fs::read_to_string(at.join("report/report.html")).unwrap();
    for expected in ["By Sex", "By Age", "largest gap: ", "small group", " to under "] {
        assert!(page.contains(expected), "{expected}");
    }
    let text = fs::read_to_string(at.join("report/report.md")).unwrap();
    assert!(text.contains("| of | figure | Sex |") && text.contains("| largest gap |"), "{text}");

    let wrong = ["eval", "linear-probe", "--model", "model", "--corpus", "chexpert", "--by", "colour"];
    let (_, err) = run(at, &wrong, 1);
    assert!(err.contains("unknown column colour") && err.contains("Sex"), "{err}");
    let (_, err) = run(at, &["eval", "all", "--corpus", "table", "--model", "model", "--protocol", "lax"], 2);
    assert!(err.contains("strict, reference, literature"), "{err}");
    let list = ["eval", "progression", "--corpus", "ms-cxr-t", "--list-texts", "texts.txt"];
    run(at, &[&list[..], &literature[..]].concat(), 0);
    let texts = fs::read_to_string(at.join("texts.txt")).unwrap();
    assert!(texts.lines().any(|line| line == "The progression of edema is improving."), "{texts}");
}

#[test]
fn encoders_are_compared_with_the_first_on_the_same_subjects() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw", "--subjects", "40", "--size", "140"], 0);
    run(at, &["-q", "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "128"], 0);
    pretrain(at, "corpus", "one", &UNTRAINED);
    pretrain(at, "corpus", "other", &[&UNTRAINED[..], &["train.seed=7"]].concat());
    run(at, &["-q", "embed", "corpus", "--model", "one", "--features", "--out", "one.parquet"], 0);
    let command = ["-q", "--json", "eval", "retrieval", "linear-probe", "--corpus", "corpus", "--split", "test"];
    let encoders =
        ["--model", "one", "--model", "other", "--embeddings", "one.parquet", "--out", "board", "--replicates", "50"];
    let result = json(&run(at, &[&command[..], &encoders].concat(), 0).0);
    assert_eq!(result["evaluations"].as_array().unwrap().len(), 3);
    let rows = result["rows"].as_array().unwrap();
    assert!(rows.len() >= 4, "{rows:?}");
    for row in rows {
        let entry = |n: usize| &row["entries"][n];
        assert!(entry(0)["difference"].is_null(), "the first is what the others are compared with");
        if entry(0)["value"].is_null() {
            // A hundredth of the subjects is one, whose findings may all be alike.
            assert_eq!(row["group"], "1 %");
            continue;
        }
        // The file holds the embeddings of the first model, so the difference is zero, and so is
        // its interval.
        assert_eq!(entry(2)["value"], entry(0)["value"]);
        assert_eq!(
            (entry(2)["difference"].as_f64(), entry(2)["difference_interval"][1].as_f64()),
            (Some(0.0), Some(0.0)),
            "{row}"
        );
        let (value, first) = (entry(1)["value"].as_f64().unwrap(), entry(0)["value"].as_f64().unwrap());
        assert!((entry(1)["difference"].as_f64().unwrap() - (value - first)).abs() < 1e-12);
    }
    let page = fs::read_to_string(at.join("board/leaderboard.html")).unwrap();
    for expected in ["2. other", "3. embeddings in one.parquet", "3/report.html", "95 % interval of the difference"] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!page.contains("http") && at.join("board/3/report.html").exists());
    let lacking = ["--model", "one", "--embeddings", "one.parquet", "--text-embeddings", "a", "--text-embeddings", "b"];
    let (_, err) = run(at, &[&command[..], &lacking].concat(), 1);
    assert!(err.contains("--text-embeddings is given 2 times and --embeddings 1 times"), "{err}");
}

/// Real radiographs: the model that was trained on open-cxr retrieves its reports, and the tasks
/// run on both collections. Skipped if the collections are not available (`MEDST_SHARED_DIR`, by
/// default `../shared`).
#[test]
fn training_shows_on_real_radiographs() {
    let shared = shared();
    let tables = ["open-cxr", "hannover"].map(|name| shared.join("data").join(name).join("studies.csv"));
    if let Some(missing) = tables.iter().find(|table| !table.exists()) {
        println!("skipped: {} is not here", missing.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (table, out) in tables.iter().zip(["open-cxr", "hannover"]) {
        let table = table.display().to_string();
        run(at, &["-q", "prepare", "table", &table, "--out", out, "--image-size", "128"], 0);
    }
    let learn = ["train.epochs=100", "train.max_steps=200", "train.sequences_per_batch=12"];
    pretrain(at, "open-cxr", "trained", &learn);
    pretrain(at, "open-cxr", "untrained", &UNTRAINED);
    let eval = |model: &str, more: &[&str]| {
        let command = ["-q", "--json", "eval", "--model", model, "--replicates", "100"];
        json(&run(at, &[&command[..], more].concat(), 0).0)
    };
    // Report retrieval among the 35 studies that were learnt. (35 studies teach nothing about the
    // 24 test studies: seen were 21 % trained and 21 % untrained.) Seen: 60 % trained, 20 %
    // untrained.
    let found = |model: &str| {
        let result = eval(model, &["retrieval", "--corpus", "open-cxr", "--split", "train"]);
        figure(&result, 0, "retrieval", "report to image", "recall@5")
    };
    let (trained, untrained) = (found("trained"), found("untrained"));
    assert!(trained > untrained + 0.2, "report to image recall@5: trained {trained}, untrained {untrained}");
    // The finding probe, and the same patient's other images across time, which even chance weights
    // find more often than not by luck alone.
    let result = eval(
        "trained",
        &["linear-probe", "retrieval", "--corpus", "open-cxr", "--corpus", "hannover", "--split", "test"],
    );
    assert!(figure(&result, 0, "linear-probe", "100 %", "accuracy") > 0.0);
    let across = figure(&result, 1, "retrieval", "same subject, another time", "recall@5");
    let figures = result["corpora"][1]["tasks"][0]["figures"].as_array().unwrap();
    let chance = figures.iter().find(|figure| figure["name"] == "recall@5").unwrap()["chance"].as_f64().unwrap();
    assert!(across > chance, "same patient across time: recall@5 {across}, chance {chance}");
}
