//! `medst finetune`: an encoder and a head learn labels; what comes out is a model for every other
//! command.

mod command;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use command::processes::{finish, start};
use command::{difference, medst, repository, run, with};
use serde_json::Value;
use tch::Tensor;

/// A cohort of few patients at the size of the shipped model.
fn corpus(subjects: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw", "--subjects", subjects, "--size", "72", "--seed", "11"], 0);
    run(at, &["-q", "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "72"], 0);
    folder
}

const SHORT: &[&str] = &["train.epochs=2", "train.batch=16", "train.output=run"];

fn finetune(settings: &[&str]) -> Vec<String> {
    let configuration = repository().join("configs/finetune.toml").display().to_string();
    let arguments = with(&["-q", "--json", "finetune", &configuration, "--device", "cpu"], &[SHORT, settings].concat());
    arguments.iter().map(ToString::to_string).collect()
}

/// Runs it; the summary.
fn tuned(at: &Path, settings: &[&str]) -> Value {
    // With one thread: tests run next to each other, and threads that share small operations would
    // wait for each other.
    let (code, out, error) = finish(start(at, 1, &finetune(settings)));
    assert_eq!(code, Some(0), "{error}");
    serde_json::from_str(&out).unwrap()
}

/// The error of a refusal, with the exit code of a user's mistake.
fn refused(at: &Path, settings: &[&str], more: &[&str]) -> String {
    let mut arguments = finetune(settings);
    arguments.extend(more.iter().map(ToString::to_string));
    let (code, _, error) = finish(start(at, 1, &arguments));
    assert!(code == Some(1) || code == Some(2), "{code:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn lines(run: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["kind"] == kind).collect()
}

fn weights(file: &Path) -> Vec<(String, Tensor)> {
    let mut all = Tensor::read_safetensors(file).unwrap();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn it_learns_and_the_result_is_a_model_for_every_command() {
    let folder = corpus("60");
    let at = folder.path();
    let settings = ["train.epochs=4", "data.labels=[\"edema\", \"pleural effusion\"]", "init.frozen=2"];
    let summary = tuned(at, &settings);
    let steps = lines(&at.join("run"), "train");
    assert_eq!(steps.len() as u64, summary["steps"].as_u64().unwrap());
    let mean =
        |steps: &[Value]| steps.iter().map(|step| step["loss"].as_f64().unwrap()).sum::<f64>() / steps.len() as f64;
    assert!(mean(&steps[steps.len() - 5..]) < 0.7 * mean(&steps[..5]), "the loss fell too little");
    assert!(summary["validation"][0]["value"].as_f64().unwrap() > 0.9, "{summary}");
    assert!(
        fs::read_dir(at.join("run"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("events.out.tfevents") })
    );

    // Frozen stages, the report encoder and the projections are unchanged; the trained stages and
    // the head are not.
    let shipped = weights(&repository().join("models/phantom/model.safetensors"));
    let tuned_weights = weights(&at.join("run/last/model.safetensors"));
    let is_head = |name: &str| name.starts_with("task_head.");
    for (name, was) in &shipped {
        let (_, is) =
            tuned_weights.iter().find(|weight| weight.0 == *name).unwrap_or_else(|| panic!("{name} is missing"));
        let last = name.starts_with("image_encoder.blocks.2") && !name.contains("lateral_expert");
        let trained = name.starts_with("image_encoder.blocks.1") || last || name.starts_with("image_encoder.norm");
        assert_eq!(was.to_kind(is.kind()) != *is, trained, "{name}");
    }
    assert_eq!(tuned_weights.iter().filter(|weight| is_head(&weight.0)).count(), 2);

    // Its head in a table; its encoder wherever a model is taken.
    let (out, _) = run(at, &["-q", "--json", "predict", "corpus", "--model", "run", "--out", "p.csv"], 0);
    let predicted: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(predicted["names"], serde_json::json!(["edema", "pleural effusion"]));
    let table = fs::read_to_string(at.join("p.csv")).unwrap();
    assert!(table.starts_with("study_id,edema,pleural effusion\n"));
    assert_eq!(table.lines().count(), predicted["studies"].as_array().unwrap().len() + 1);
    run(at, &["-q", "inspect", "run"], 0);
    run(at, &["-q", "verify", "run"], 0);
    run(at, &["-q", "embed", "corpus", "--model", "run", "--features", "--out", "e.parquet"], 0);
    let (out, _) = run(at, &["--json", "-q", "eval", "linear-probe", "--model", "run", "--corpus", "corpus"], 0);
    assert!(out.contains("AUROC"), "{out}");
    // A model without a head is refused before any input is read.
    let (_, error) = run(at, &["-q", "predict", "corpus", "--model", "phantom"], 2);
    assert!(error.contains("has no head") && error.contains("medst finetune"), "{error}");

    // Fine-tuning for another task can start from it: the old head is replaced.
    let change =
        tuned(at, &["data.task=change", "init.weights=run", "train.output=change", "train.class_weights=balanced"]);
    assert_eq!(change["head"]["classes"], serde_json::json!(["improving", "stable", "worsening"]));
    let (out, _) = run(at, &["-q", "--json", "predict", "corpus", "--model", "change", "--out", "c.csv"], 0);
    let predicted: Value = serde_json::from_str(&out).unwrap();
    let first = &predicted["studies"][0];
    assert!(first["previous"].is_string());
    let sum: f64 =
        first["probabilities"].as_array().unwrap()[..3].iter().map(|probability| probability.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{first}");
    assert!(fs::read_to_string(at.join("c.csv")).unwrap().starts_with("study_id,previous_id,"));
}

/// Of findings with an average of the weights, whose run has weights of both kinds; of changes with
/// mixup.
#[test]
fn a_run_that_was_stopped_comes_to_the_same_bytes() {
    let folder = corpus("24");
    let at = folder.path();
    let long = ["train.epochs=8", "train.patience=0", "optimizer.layer_decay=0.9"];
    let files = ["model.safetensors", "optimizer.safetensors", "state.json"];
    let change = ["data.task=change", "init.frozen=3", "train.mixup=0.4", "train.output=change"];
    stop_and_resume(at, "change", &[&long[..], &change].concat(), &files);
    let settings = [&long[..], &["train.average=0.9"]].concat();
    stop_and_resume(at, "run", &settings, &[&files[..], &["trained.safetensors"]].concat());

    // A resumed run keeps its configuration, and the head of its labels.
    let other = refused(at, &[&settings[..], &["optimizer.lr=0.5"]].concat(), &["--resume"]);
    assert!(other.contains("finetune.toml") && other.contains("lr = 0.001"), "{other}");
    let text = fs::read_to_string(at.join("raw/studies.csv")).unwrap().replacen("edema", "oedema", 1);
    fs::write(at.join("raw/renamed.csv"), text).unwrap();
    run(at, &["-q", "prepare", "table", "raw/renamed.csv", "--out", "corpus", "--image-size", "72", "--overwrite"], 0);
    let other = refused(at, &settings, &["--resume"]);
    assert!(other.contains("its head has 7 outputs") && other.contains("ask for 6 outputs"), "{other}");
}

/// Runs to the end, and again with a stop in the middle; both must leave the same `files`.
fn stop_and_resume(at: &Path, output: &str, settings: &[&str], files: &[&str]) {
    let whole = format!("{output}-whole");
    tuned(at, &[settings, &[&format!("train.output={whole}")]].concat());
    let (stopped, whole) = (at.join(output), at.join(whole));
    let child = start(at, 1, &finetune(settings));
    let begun = Instant::now();
    while !stopped.join("last/model.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(300), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let (code, _, error) = finish(child);
    assert_ne!(code, Some(0), "it was to be stopped in the middle: {error}");
    assert!(lines(&stopped, "train").len() < lines(&whole, "train").len());
    let mut resume = finetune(settings);
    resume.push("--resume".into());
    let (code, _, error) = finish(start(at, 1, &resume));
    assert_eq!(code, Some(0), "{error}");
    for file in files {
        let bytes = |run: &Path| fs::read(run.join("last").join(file)).unwrap();
        assert!(bytes(&stopped) == bytes(&whole), "{output}: {file} differs");
    }
    for (line, other) in lines(&stopped, "train").iter().zip(&lines(&whole, "train")) {
        assert_eq!(difference(line, other, |a, b| (a - b).abs()), 0.0, "{line}\n{other}");
    }
}

/// Logged to an MLflow file store as well.
#[test]
fn a_run_ends_when_the_validation_split_gets_no_better_and_its_best_weights_are_used() {
    let folder = corpus("24");
    let at = folder.path();
    // The head alone learns, fast: its figure soon stops rising.
    let settings = ["train.epochs=40", "train.patience=2", "init.frozen=5", "optimizer.lr=0.03"];
    let mut command = medst(at);
    command.args(finetune(&settings)).env("OMP_NUM_THREADS", "1").env("MLFLOW_TRACKING_URI", "mlruns");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["ending"], "converged");
    let validated = lines(&at.join("run"), "validate");
    let figures: Vec<f64> = validated.iter().map(|line| line["figure"].as_f64().unwrap()).collect();
    let highest = figures.iter().copied().fold(0.0, f64::max);
    let best = figures.iter().position(|&figure| figure == highest).unwrap();
    assert_eq!(figures.len(), best + 3, "two epochs without a better figure: {figures:?}");
    assert!(summary["steps"].as_u64() < summary["total_steps"].as_u64(), "{summary}");
    assert_eq!(summary["used"], validated[best]["step"]);
    assert!((summary["validation"][0]["value"].as_f64().unwrap() - highest).abs() < 1e-9, "{summary}");
    let model = |name: &str| fs::read(at.join("run").join(name).join("model.safetensors")).unwrap();
    assert!(model("best") != model("last"), "the best weights are not the last");

    let logged =
        fs::read_dir(at.join("mlruns/1")).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let logged = logged.expect("a run in the store");
    let metric = fs::read_to_string(logged.join("metrics/validate/figure")).unwrap();
    let stored: Vec<f64> = metric.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(stored.len(), figures.len());
    assert!(stored.iter().zip(&figures).all(|(a, b)| (a - b).abs() < 1e-12), "{stored:?}\n{figures:?}");
    assert_eq!(fs::read_to_string(logged.join("params/train.patience")).unwrap(), "2");
    assert!(fs::read_to_string(logged.join("meta.yaml")).unwrap().contains("status: 3\n"));
}

/// MS-CXR-T has three courses, CheXTemporal five. Both consist of test studies, unless a split file
/// says otherwise.
#[test]
fn changes_are_learnt_from_tables_of_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layouts = "mimic-cxr-jpg,ms-cxr-t,chexpert,rexgradient,chextemporal";
    run(at, &["-q", "phantom", "raw", "--subjects", "120", "--size", "72", "--seed", "33", "--layout", layouts], 0);
    let prepare = |name: &str, more: &[&str]| {
        let source: &[&str] = match name {
            "ms-cxr-t" => &["ms-cxr-t", "raw/ms-cxr-t", "--images", "raw/mimic-cxr-jpg"],
            _ => &["chextemporal", "raw/chextemporal", "--chexpert", "raw/chexpert", "--mimic", "raw/mimic-cxr-jpg"],
        };
        run(at, &[&["-q", "prepare"], source, &["--image-size", "72"], more].concat(), 0);
    };
    let learnt = |name: &str, settings: &[&str]| {
        let corpus = format!("data.corpus={name}");
        let output = format!("train.output={name}-run");
        let arguments = ["data.task=change", "init.frozen=5", "train.epochs=1", &corpus, &output];
        tuned(at, &[&arguments[..], settings].concat())
    };
    for (name, classes) in [
        ("ms-cxr-t", &["improving", "stable", "worsening"][..]),
        ("chextemporal", &["improving", "new", "resolved", "stable", "worsening"]),
    ] {
        let unsplit = format!("{name}-test");
        prepare(name, &["--out", &unsplit]);
        let error = refused(at, &["data.task=change", &format!("data.corpus={unsplit}")], &[]);
        assert!(error.contains("no labelled training studies") && error.contains("--splits FILE"), "{error}");
        let mut rows = csv::Reader::from_path(at.join(&unsplit).join("splits.csv")).unwrap();
        let subjects: BTreeSet<String> = rows.records().map(|row| row.unwrap()[0].to_string()).collect();
        let split = |(n, subject): (usize, String)| {
            format!("{subject},{}\n", ["train", "train", "train", "validate", "test"][n % 5])
        };
        let table: String = subjects.into_iter().enumerate().map(split).collect();
        fs::write(at.join("splits.csv"), format!("subject_id,split\n{table}")).unwrap();
        prepare(name, &["--splits", "splits.csv", "--out", name]);
        let summary = learnt(name, &[]);
        assert_eq!(summary["head"]["classes"], serde_json::json!(classes));
        assert!(summary["trained_on"].as_u64().unwrap() > 5, "{summary}");
        assert_eq!(lines(&at.join(format!("{name}-run")), "validate").len(), 1);
    }

    // Some of the classes, in the order of the configuration.
    let three = "data.classes=[\"worsening\", \"Improving\", \"new\"]";
    let summary = learnt("chextemporal", &[three, "train.output=three"]);
    assert_eq!(summary["head"]["classes"], serde_json::json!(["worsening", "improving", "new"]));
    let other = ["data.task=change", "data.corpus=chextemporal", "data.classes=[\"better\", \"worsening\"]"];
    let error = refused(at, &other, &[]);
    assert!(error.contains("data.classes") && error.contains("`better`") && error.contains("resolved"), "{error}");
}

#[test]
fn sixteen_bits_learn_what_float32_learns() {
    let folder = corpus("5");
    let at = folder.path();
    let losses = |precision: &str| {
        // Few and small batches: processors without units for float16 take 50 times as long for it.
        let settings = [&format!("train.precision={precision}"), &format!("train.output={precision}")];
        tuned(at, &[&["train.epochs=1", "train.batch=4"], &settings.map(String::as_str)[..]].concat());
        lines(&at.join(precision), "train").iter().map(|line| line["loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let exact = losses("float32");
    for precision in ["bfloat16", "float16"] {
        let rounded = losses(precision);
        assert_eq!(rounded.len(), exact.len());
        assert!(rounded != exact, "{precision} did not compute in another format");
        let apart = rounded.iter().zip(&exact).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
        assert!(apart < 0.005, "{precision}: a loss is {apart:.3} from that of float32");
        // What is kept is float32, and a model for every other command.
        let (out, _) = run(at, &["-q", "--json", "predict", "corpus", "--model", precision, "--out", "p.csv"], 0);
        assert!(
            serde_json::from_str::<Value>(&out).unwrap()["studies"]
                .as_array()
                .is_some_and(|studies| !studies.is_empty())
        );
        assert_eq!(weights(&at.join(precision).join("last/model.safetensors"))[0].1.kind(), tch::Kind::Float);
    }
}

#[cfg(feature = "mpi")]
#[test]
fn several_processes_compute_the_steps_of_one() {
    if !command::processes::launcher() {
        return;
    }
    let folder = corpus("24");
    let at = folder.path();
    // 7 items per batch; the last batch of an epoch is sometimes smaller than the number of
    // processes.
    for (name, more) in [
        ("plain", &["data.task=findings", "train.average=0.9", "train.mixup=0.4"][..]),
        ("change", &["data.task=change", "train.class_weights=balanced"]),
    ] {
        let trained = |processes: usize| {
            let output = format!("{name}-{processes}");
            let settings = ["train.precision=float64", "train.batch=7", &format!("train.output={output}")];
            let (code, _, error) = finish(start(at, processes, &finetune(&[&settings[..], more].concat())));
            assert_eq!(code, Some(0), "{error}");
            at.join(output)
        };
        let (one, two) = (trained(1), trained(2));
        for kind in ["train", "validate"] {
            let (lines_of_one, others) = (lines(&one, kind), lines(&two, kind));
            assert_eq!(lines_of_one.len(), others.len());
            assert!(!lines_of_one.is_empty());
            for (a, b) in lines_of_one.iter().zip(&others) {
                assert!(difference(a, b, |a, b| (a - b).abs()) < 1e-6, "{a}\n{b}");
            }
        }
        for ((name, a), (_, b)) in
            weights(&one.join("last/model.safetensors")).iter().zip(&weights(&two.join("last/model.safetensors")))
        {
            let off = (a - b).abs().max().double_value(&[]);
            // As in tests/distributed: where a gradient is zero but for rounding, AdamW divides
            // rounding by its own size.
            let bound = if name.ends_with(".bias") { 1e-3 } else { 1e-5 };
            assert!(off < bound, "{name} off by {off:e}");
        }
    }
}

#[test]
fn one_of_several_classes_is_learnt() {
    let folder = corpus("40");
    let at = folder.path();
    let labelled = |text: &str, class: &dyn Fn(usize, &str) -> String| {
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        let mut out = csv::Writer::from_writer(Vec::new());
        let header = rows.headers().unwrap().clone();
        let edema = header.iter().position(|name| name == "edema").unwrap();
        out.write_record(header.iter().chain(["label"])).unwrap();
        for (n, row) in rows.records().enumerate() {
            let row = row.unwrap();
            out.write_record(row.iter().chain([class(n, &row[edema]).as_str()])).unwrap();
        }
        String::from_utf8(out.into_inner().unwrap()).unwrap()
    };
    let text = fs::read_to_string(at.join("raw/studies.csv")).unwrap();
    let prepare = |name: &str, class: &dyn Fn(usize, &str) -> String| {
        fs::write(at.join("raw/classes.csv"), labelled(&text, class)).unwrap();
        run(at, &["-q", "prepare", "table", "raw/classes.csv", "--out", name, "--image-size", "72"], 0);
        format!("data.corpus={name}")
    };
    let wet = |_: usize, edema: &str| if edema == "1" { "wet".to_string() } else { "dry".to_string() };
    let classes = prepare("classes", &wet);
    let summary = tuned(at, &[&classes, "data.task=exclusive", "train.class_weights=balanced"]);
    assert_eq!(summary["head"]["classes"], serde_json::json!(["dry", "wet"]));
    assert!(summary["validation"][0]["value"].as_f64().unwrap() > 0.7, "{summary}");

    // Labels of one class cannot be learnt.
    let flat = prepare("flat", &|_, _| "dry".into());
    let error = refused(at, &[&flat, "data.task=exclusive", "train.output=flat-run"], &[]);
    assert!(error.contains("one class") && error.contains("dry alone"), "{error}");
    assert!(!at.join("flat-run").exists(), "a start that fails leaves no folder");
}

#[test]
fn mistakes_are_named() {
    let folder = corpus("12");
    let at = folder.path();
    let error = refused(at, &["data.labels=[\"gout\"]"], &[]);
    assert!(error.contains("no label column `gout`") && error.contains("pleural_effusion"), "{error}");
    let error = refused(at, &["data.task=exclusive"], &[]);
    assert!(error.contains("data.labels") && error.contains("edema"), "{error}");
    let error = refused(at, &["init.frozen=6"], &[]);
    assert!(error.contains("init.frozen = 6") && error.contains("5 stages"), "{error}");
    let error = refused(at, &["train.rate=1"], &[]);
    assert!(error.contains("unknown field `rate`"), "{error}");
    fs::write(at.join("empty.toml"), "").unwrap();
    let (_, error) = run(at, &["-q", "finetune", "empty.toml"], 2);
    assert!(error.contains("empty.toml") && error.contains("init.weights is missing"), "{error}");
    let error = refused(at, &["init.weights=nowhere"], &[]);
    assert!(error.contains("nowhere"), "{error}");
    // An encoder of text alone, and one that reads larger pictures than there are.
    let error = refused(at, &["init.weights=text=phantom"], &[]);
    assert!(error.contains("no image encoder"), "{error}");
    run(at, &["-q", "prepare", "table", "raw/studies.csv", "--out", "small", "--image-size", "48"], 0);
    let error = refused(at, &["data.corpus=small"], &[]);
    assert!(error.contains("--image-size 64"), "{error}");
    assert!(!at.join("run").exists(), "a start that fails leaves no folder");
}
