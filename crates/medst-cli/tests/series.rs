//! Series of visits: what `medst compare` says of them, calibrated and checked on patients whose
//! truth is known; MI-CXR's questions; courses learnt at one source and judged at another. With the
//! model that comes with the program.

mod command;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use command::run;
use serde_json::Value;

fn json(at: &Path, arguments: &[&str], code: i32) -> Value {
    serde_json::from_str(&run(at, &[&["--json"], arguments].concat(), code).0).unwrap()
}

/// A table of a cohort's frontal images with the presence and the severity of every finding, taken
/// from `truth.csv`.
fn graded(cohort: &Path) {
    let truth = fs::read_to_string(cohort.join("truth.csv")).unwrap();
    let mut lines = truth.lines().map(|line| line.split(',').collect::<Vec<&str>>());
    let columns = lines.next().unwrap();
    let column = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let names = ["subject_id", "study_id", "day", "finding", "present", "severity"];
    let [subject, study, day, finding, present, severity] = names.map(column);
    let mut studies: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
    let mut findings = Vec::new();
    for cells in lines {
        let image = format!("images/{}/{}_frontal.png", cells[subject], cells[study]);
        let first = || {
            (vec![cells[subject].to_string(), cells[study].into(), cells[day].into(), "PA".into(), image], Vec::new())
        };
        let cells_of_study = studies.entry(cells[study]).or_insert_with(first);
        cells_of_study.1.extend([cells[present].to_string(), cells[severity].to_string()]);
        if !findings.contains(&cells[finding]) {
            findings.push(cells[finding]);
        }
    }
    let of_findings = findings.iter().map(|name| format!(",{name},severity_{name}")).collect::<String>();
    let mut table = format!("subject_id,study_id,day,view,image{of_findings}\n");
    for (cells_of_study, labels) in studies.into_values() {
        table += &[cells_of_study, labels].concat().join(",");
        table.push('\n');
    }
    fs::write(cohort.join("table/graded.csv"), table).unwrap();
}

#[test]
fn what_is_said_of_series_is_calibrated_on_some_patients_and_holds_on_others() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (name, subjects, seed) in [("some", "240", "31"), ("others", "120", "32")] {
        let layouts = ["--layout", "table,mimic-cxr-jpg,ms-cxr-t"];
        let cohort = ["-q", "phantom", name, "--subjects", subjects, "--size", "96", "--seed", seed];
        run(at, &[&cohort[..], &layouts[..]].concat(), 0);
        graded(&at.join(name));
        let (table, corpus) = (format!("{name}/table/graded.csv"), format!("{name}-series"));
        run(at, &["-q", "prepare", "table", &table, "--out", &corpus, "--image-size", "72"], 0);
    }
    let images = ["--images", "some/mimic-cxr-jpg", "--out", "pairs", "--image-size", "72"];
    run(at, &[&["-q", "prepare", "ms-cxr-t", "some/ms-cxr-t"], &images[..]].concat(), 0);
    let compare = |arguments: &[&'static str]| [&["compare"], arguments, &["--model", "phantom"]].concat();

    // One of the five findings has too few pairs of a course, which the exit code reports.
    let fitted = json(at, &compare(&["pairs", "some-series", "--fit-calibration", "c.json"]), 1);
    let series = &fitted["series"];
    assert_eq!(series["source"], "some-series");
    assert!(series["seen_first"].as_array().unwrap().len() >= 5, "{series}");
    let loss = |fit: &Value, when: &str| fit[when]["log_loss"].as_f64().unwrap();
    for fit in series["seen_first"].as_array().unwrap() {
        assert!(loss(fit, "after") < loss(fit, "before"), "{fit}");
    }
    assert!(
        series["order_by_images"]["scale"].is_f64() && series["order_by_reports"].is_null(),
        "without reports there is only the order from images"
    );

    let checked = json(at, &compare(&["others-series", "--check-calibration", "c.json"]), 0);
    let of = |question: &str, finding: &str| {
        let all = checked[0]["answers"].as_array().unwrap();
        let answer = all.iter().find(|answer| answer["question"] == question && answer["finding"] == finding);
        answer.unwrap_or_else(|| panic!("no {question} {finding} in {all:?}")).clone()
    };
    // The model has learnt to see on other patients: on these its answers are far better than
    // always the same one.
    let seen = of("seen first, or never", "all findings");
    let number = |answer: &Value, key: &str| answer[key].as_f64().unwrap();
    assert!(number(&seen, "accuracy") > number(&seen, "chance") + 0.05, "{seen}");
    assert!(number(&seen, "calibration_error") < 0.1, "{seen}");
    assert!(seen["brier"][0].as_f64() < seen["brier"][1].as_f64() && seen["interval"].is_array(), "{seen}");
    let order = of("order, images alone", "–");
    assert!(number(&order, "accuracy") > 2.0 * number(&order, "chance"), "{order}");
    let (table, _) = run(at, &compare(&["others-series", "--check-calibration", "c.json"]), 0);
    assert!(table.contains("calibration fitted on pairs and some-series, checked on others-series"), "{table}");

    // Of one patient: probabilities over the visits.
    let studies = fs::read_to_string(at.join("others/table/graded.csv")).unwrap();
    let subject = studies.lines().find(|line| line.contains("-v5,")).unwrap().split(',').next().unwrap();
    let found = json(
        at,
        &["compare", "others-series", "--subject", subject, "--model", "phantom", "--calibration", "c.json"],
        0,
    );
    let visits = found["time_points"].as_array().unwrap().len();
    let series = &found["series"].as_array().unwrap()[2];
    let sum = |values: &Value| values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).sum::<f64>();
    assert_eq!(series["seen_first"].as_array().unwrap().len(), visits + 1);
    assert!((sum(&series["seen_first"]) - 1.0).abs() < 1e-9, "{series}");
    let without = json(at, &["compare", "others-series", "--subject", subject, "--model", "phantom"], 0);
    assert!(without["series"][2]["seen_first"].is_null() && without["series"][2]["worst_at"].is_u64());
    assert_eq!(without["order_by_images"]["order"], found["order_by_images"]["order"], "only the confidence differs");

    for (arguments, code, expected) in [
        (&["others/table", "--check-calibration", "c.json"][..], 1, "others/table"),
        (&["some-series", "--fit-calibration", "d.json"], 1, "pairs.csv"),
        (&["pairs", "some-series", "--check-calibration", "missing.json"], 1, "missing.json"),
    ] {
        let (_, err) = run(at, &compare(arguments), code);
        assert!(err.contains(expected), "{arguments:?}: {expected}\n{err}");
    }
}

#[test]
fn questions_about_series_and_courses_from_source_to_source_are_a_command_each() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layouts = "mimic-cxr-jpg,ms-cxr-t,imagenome,mi-cxr,chexpert,rexgradient,chextemporal";
    run(at, &["-q", "phantom", "raw", "--subjects", "120", "--size", "96", "--seed", "33", "--layout", layouts], 0);
    let size = ["--image-size", "72"];
    let images = ["--images", "raw/mimic-cxr-jpg", "--out", "questions"];
    run(at, &[&["-q", "prepare", "mi-cxr", "raw/mi-cxr"], &images[..], &size].concat(), 0);
    let folders = ["--chexpert", "raw/chexpert", "--mimic", "raw/mimic-cxr-jpg", "--out", "sites"];
    run(at, &[&["-q", "prepare", "chextemporal", "raw/chextemporal"], &folders[..], &size].concat(), 0);

    let eval = |task: &'static str, corpus: &'static str, more: &[&'static str]| {
        let command = ["-q", "eval", task, "--model", "phantom", "--corpus", corpus, "--replicates", "50"];
        json(at, &[&command[..], more].concat(), 0)["corpora"][0]["tasks"][0].clone()
    };
    let figure = |task: &Value, group: &str, name: &str| {
        let all = task["figures"].as_array().unwrap();
        let figure = all.iter().find(|figure| figure["group"] == group && figure["name"] == name);
        figure.unwrap_or_else(|| panic!("no {group} {name} in {all:?}")).clone()
    };
    let answered = eval("series-questions", "questions", &["--by", "view"]);
    let all = figure(&answered, "all", "accuracy");
    assert!((all["chance"].as_f64().unwrap() - 0.2).abs() < 1e-9, "{all}");
    assert!(all["value"].as_f64().unwrap() > 0.4 && all["interval"].is_array(), "{all}");
    assert_eq!(all["published"][0]["value"], 0.418);
    assert_eq!(all["by"][0]["column"], "view");
    figure(&answered, "single_entity_peak", "accuracy");

    for kind in [
        "single_entity_emergence",
        "interval_change",
        "single_entity_interval_summary",
        "multi_entity_interval_summary",
    ] {
        assert!(figure(&answered, kind, "accuracy")["value"].is_f64(), "{kind}");
    }
    assert_eq!(figure(&answered, "ICR", "accuracy")["published"][0]["value"], 0.571);
    assert!(!answered["notes"].to_string().contains("answered by"), "all questions are read: {}", answered["notes"]);

    let moved = eval("temporal-transfer", "sites", &[]);
    for group in ["chexpert → mimic", "mimic → chexpert", "mean"] {
        for readout in ["concatenation", "difference"] {
            let found = figure(&moved, group, &format!("macro accuracy, {readout}"));
            assert!(found["value"].is_f64(), "{found}");
        }
    }
    assert!(figure(&moved, "mean", "macro accuracy, difference")["chance"].as_f64().unwrap() >= 0.2);

    // Corpora with one source each, which is named by the folder.
    for (name, layout) in [("harbour", "ms-cxr-t"), ("hill", "imagenome")] {
        let source = format!("raw/{layout}");
        run(
            at,
            &[&["-q", "prepare", layout, &source, "--images", "raw/mimic-cxr-jpg", "--out", name], &size[..]].concat(),
            0,
        );
    }
    let transfer = ["-q", "eval", "temporal-transfer", "--model", "phantom", "--replicates", "50", "--by", "view"];
    let both = json(at, &[&transfer[..], &["--corpus", "harbour", "--corpus", "hill"]].concat(), 0);
    let corpora = both["corpora"].as_array().unwrap();
    assert_eq!(corpora.len(), 3, "each corpus, and both together");
    assert!(corpora[..2].iter().all(
        |corpus| corpus["tasks"].as_array().unwrap().is_empty() && corpus["refused"].as_array().unwrap().is_empty()
    ));
    assert_eq!(corpora[2]["data"]["path"], "harbour + hill");
    let together = &corpora[2]["tasks"][0];
    for group in ["harbour → hill", "hill → harbour", "mean"] {
        let found = figure(together, group, "macro accuracy, difference");
        assert!(found["value"].is_f64() && found["by"][0]["column"] == "view", "{found}");
    }
    let notes = together["notes"].to_string();
    assert!(notes.contains("subject ids") && notes.contains("in several corpora"), "both are of MIMIC-CXR: {notes}");
    let (page, _) = run(
        at,
        &[
            "eval",
            "temporal-transfer",
            "--model",
            "phantom",
            "--corpus",
            "harbour",
            "--corpus",
            "hill",
            "--out",
            "moved",
        ],
        0,
    );
    assert!(
        page.contains("harbour + hill")
            && fs::read_to_string(at.join("moved/report.html")).unwrap().contains("hill → harbour")
    );
    // Figures of one encoder next to those of another, of the corpora together as well.
    let models =
        ["--model", "phantom", "--model", "phantom", "--corpus", "harbour", "--corpus", "hill", "--replicates", "20"];
    let board = json(at, &[&["-q", "eval", "temporal-transfer"], &models[..]].concat(), 0);
    let row = &board["rows"][0];
    assert!(row["corpus"] == "harbour + hill" && row["entries"][1]["difference"] == 0.0, "{row}");
    let (_, err) = run(at, &["eval", "temporal-transfer", "--model", "phantom", "--corpus", "harbour"], 1);
    assert!(err.contains("--corpus for each source"), "{err}");

    let on = |task: &'static str, corpus: &'static str| ["eval", task, "--model", "phantom", "--corpus", corpus];
    for (arguments, expected) in
        [(on("series-questions", "sites"), "medst prepare mi-cxr"), (on("temporal-transfer", "questions"), "pairs.csv")]
    {
        let (_, err) = run(at, &arguments, 1);
        assert!(err.contains(expected), "{arguments:?}: {expected}\n{err}");
    }
}
