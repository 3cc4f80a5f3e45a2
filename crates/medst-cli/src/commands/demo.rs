//! `medst demo`: the whole workflow on synthetic patients, by the commands that a user would type.

use std::ffi::OsString;
use std::fmt::{Display, Formatter};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use medst_data::progress::Progress;
use medst_model::Error;
use medst_model::model::builtin;
use serde::Serialize;
use serde_json::Value;

use super::{Output, Verbosity, dispatch};
use crate::args::{Arguments, Demo};
use crate::progress::Reporter;

/// The configurations, compiled in because the Python package has no repository around it.
const PHANTOM: &str = include_str!("../../../../configs/phantom.toml");
const FROM_SCRATCH: &str = include_str!("../../../../configs/from-scratch.toml");

/// A row of the table at the end: a figure of one of the evaluation tasks.
struct Row {
    task: &'static str,
    group: &'static str,
    figure: &'static str,
    label: &'static str,
    /// By how much a trained model must exceed an untrained one; otherwise, the demo fails.
    margin: f64,
    /// The value of a supervised model, or of a reader who knows the truth (docs/phantom.md).
    bound: Option<f64>,
}

const fn row([task, group, figure]: [&'static str; 3], label: &'static str, margin: f64, bound: Option<f64>) -> Row {
    Row { task, group, figure, label, margin, bound }
}

const ROWS: [Row; 7] = [
    row(["zero-shot", "mean", "AUROC"], "zero-shot, AUROC", 0.15, Some(0.989)),
    row(["grounding", "all phrases", "AUROC of pixels"], "grounding, AUROC of pixels", 0.15, Some(0.997)),
    row(["retrieval", "report to image", "recall@5"], "report to image, recall@5", 0.1, Some(0.495)),
    row(["retrieval", "same subject, another time", "recall@1"], "same patient at another time, recall@1", 0.1, None),
    row(
        ["sequence-order", "image to report", "forward mapping accuracy"],
        "order of visits, forward mapping accuracy",
        0.03,
        Some(0.575),
    ),
    row(
        ["progression", "mean", "AUROC, worsening against improving"],
        "worsening against improving by text, AUROC",
        0.05,
        None,
    ),
    row(["temporal-sentence", "all", "AUROC"], "sentences of one course against others, AUROC", 0.05, Some(1.0)),
];

pub fn run(arguments: &Demo, output: &Output, reporter: &Reporter) -> Result<()> {
    let start = Instant::now();
    let folder = &arguments.folder;
    if folder.exists() {
        return Err(Error::Input(format!(
            "{} already exists; remove it or name another folder: medst demo FOLDER",
            folder.display()
        ))
        .into());
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let at = |name: &str| folder.join(name).display().to_string();
    let (config, side, models): (_, _, &[_]) = match arguments.from_scratch {
        false => (PHANTOM, "72", &["untrained", "shipped", "trained"]),
        true => (FROM_SCRATCH, "128", &["untrained", "trained"]),
    };
    let config_path = at("config.toml");
    fs::write(&config_path, config).with_context(|| config_path.clone())?;
    // Of the words of phantom reports, as the shipped model's.
    fs::write(at("vocab.txt"), builtin::MODELS[0].vocabulary()).with_context(|| at("vocab.txt"))?;
    let steps = Steps { reporter, talks: !output.json };

    steps.title("1/6 drawing 400 patients")?;
    let cohort = at("cohort");
    let draw = ["phantom", &cohort, "--subjects", "400", "--seed", "4000001", "--size", "160"];
    steps.run(&[&draw[..], &["--sheet", &at("cohort.png")]].concat(), Verbosity::Result)?;

    steps.title("2/6 preparing the corpus")?;
    let corpus = at("corpus");
    let table = at("cohort/studies.csv");
    steps.run(&["prepare", "table", &table, "--out", &corpus, "--image-size", side], Verbosity::Result)?;

    steps.title("3/6 pre-training briefly on these patients")?;
    let (run, untrained) = (at("run"), at("untrained"));
    let sets = [format!("data.corpus={corpus}"), format!("data.vocabulary={}", at("vocab.txt"))];
    let pretrain = |to: &str, more: &[&str], shown| {
        let output = format!("train.output={to}");
        let settings = sets.iter().map(String::as_str).chain([output.as_str()]).chain(more.iter().copied());
        let settings: Vec<&str> = settings.flat_map(|setting| ["--set", setting]).collect();
        steps.run(&[&["pretrain", &config_path], &settings[..]].concat(), shown)
    };
    let continued: &[&str] = match arguments.from_scratch {
        // Optimizer moments start from zero: larger steps first undo a little of what the shipped
        // model knows.
        false => &["init.weights=phantom", "train.max_steps=120", "optimizer.lr=5e-5"],
        true => &[],
    };
    pretrain(&run, continued, Verbosity::Result)?;
    // A baseline: random weights.
    pretrain(&untrained, &["train.max_steps=0"], Verbosity::Nothing)?;

    steps.title("4/6 drawing 300 other patients in the layouts of the benchmarks, and preparing them")?;
    let benchmarks = at("benchmarks");
    let draw = ["phantom", &benchmarks, "--subjects", "300", "--seed", "4000002", "--size", "160"];
    steps.run(&[&draw[..], &["--layout", "table,mimic-cxr-jpg,ms-cxr-t"]].concat(), Verbosity::Result)?;
    let (patients, pairs) = (at("corpora/patients"), at("corpora/ms-cxr-t"));
    let table = at("benchmarks/table/studies.csv");
    steps.run(&["prepare", "table", &table, "--out", &patients, "--image-size", side], Verbosity::Result)?;
    let (source, images) = (at("benchmarks/ms-cxr-t"), at("benchmarks/mimic-cxr-jpg"));
    let prepare = ["prepare", "ms-cxr-t", &source, "--images", &images, "--out", &pairs];
    steps.run(&[&prepare[..], &["--image-size", side]].concat(), Verbosity::Result)?;

    steps.title("5/6 evaluating on them")?;
    let tasks = ["zero-shot", "grounding", "retrieval", "sequence-order", "progression", "temporal-sentence"];
    for &model in models {
        let weights = match model {
            "untrained" => &untrained,
            "shipped" => "phantom",
            _ => &run,
        };
        let report = at(&format!("report-{model}"));
        let inputs = ["--split", "all", "--model", weights, "--corpus", &patients, "--corpus", &pairs];
        let outputs = ["--out", &report, "--replicates", "200"];
        steps.run(&[&["eval"], &tasks[..], &inputs, &outputs].concat(), Verbosity::Nothing)?;
    }
    // Cards of the model and of its data.
    let evaluation = at("report-trained/results.json");
    steps.run(&["card", &run, "--evaluation", &evaluation, "--out", &at("model-card.md")], Verbosity::Nothing)?;
    steps.run(&["card", &corpus, "--out", &at("data-card.md")], Verbosity::Nothing)?;

    steps.title("6/6 the result")?;
    steps.run(&["inspect", &run], Verbosity::Result)?;
    steps.say("")?;
    let table = Table::read(folder, models)?;
    output.show(&table)?;
    steps.say(&ending(folder, start.elapsed().as_secs()))?;
    table.check()
}

/// What the demo leaves, and what to do next.
fn ending(folder: &Path, seconds: u64) -> String {
    let demo = folder.display();
    format!(
        "
Done in {seconds} s. {demo} contains:
  cohort.png            what the synthetic radiographs look like
  cohort                radiographs, reports, and the truth about them (truth.csv)
  corpus                the corpus that training reads
  run                   the trained model (best, last), metrics.jsonl, TensorBoard events
  corpora               the patients of the evaluation
  report-trained        the evaluation as a page (report.html), as text, and as JSON
  model-card.md         what the model is, what it was trained on, and its figures; data-card.md describes the corpus

Next: your own radiographs. Write a table with subject_id, view, image and report, and any other columns you have
(docs/data.md), and then
  medst prepare table TABLE.csv --out CORPUS
  medst pretrain configs/pretrain.toml --set data.corpus=CORPUS"
    )
}

/// Prints and runs the commands of the demo, in this process.
struct Steps<'a> {
    reporter: &'a Reporter,
    /// Off with `--json`: then only the table is printed.
    talks: bool,
}

impl Steps<'_> {
    fn say(&self, text: &str) -> Result<()> {
        if self.talks {
            writeln!(std::io::stdout(), "{text}")?;
        }
        Ok(())
    }

    fn title(&self, text: &str) -> Result<()> {
        self.say(&format!("\n== {text}"))
    }

    fn run(&self, command: &[&str], verbosity: Verbosity) -> Result<()> {
        if self.reporter.stop_requested() {
            return Err(Error::Stopped.into());
        }
        let line: Vec<String> = command.iter().map(|part| quoted(part)).collect();
        self.say(&format!("$ medst {}", line.join(" ")))?;
        let typed = std::iter::once("medst").chain(command.iter().copied()).map(OsString::from);
        let arguments = Arguments::try_parse_from(typed).expect("the demo's commands are valid");
        let output = Output {
            json: false,
            verbosity: if self.talks { verbosity } else { Verbosity::Nothing },
            typed: command.iter().map(ToString::to_string).collect(),
        };
        let quiet = self.reporter.is_silent() || verbosity == Verbosity::Nothing;
        dispatch(arguments.command, &output, &Reporter::new(quiet))
    }
}

/// A part of a command as a shell takes it.
fn quoted(part: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=,:".contains(letter);
    match part.chars().all(plain) {
        true => part.to_string(),
        false => format!("'{}'", part.replace('\'', r"'\''")),
    }
}

/// The figures of the demo's models.
#[derive(Serialize)]
struct Table {
    models: Vec<&'static str>,
    rows: Vec<TableRow>,
}

#[derive(Serialize)]
struct TableRow {
    figure: &'static str,
    /// One for each model.
    values: Vec<Option<f64>>,
    chance: Option<f64>,
    bound: Option<f64>,
}

impl Table {
    /// Reads the results that `medst eval` wrote for each model.
    fn read(folder: &Path, models: &[&'static str]) -> Result<Table> {
        let figures: Vec<Vec<Value>> =
            models.iter().map(|model| figures(&folder.join(format!("report-{model}")))).collect::<Result<_>>()?;
        let rows = ROWS.iter().map(|row| {
            let found: Vec<Option<&Value>> = figures.iter().map(|figures| row.find(figures)).collect();
            TableRow {
                figure: row.label,
                values: found.iter().map(|figure| figure.and_then(|figure| figure["value"].as_f64())).collect(),
                chance: found.iter().flatten().find_map(|figure| figure["chance"].as_f64()),
                bound: row.bound,
            }
        });
        Ok(Table { models: models.to_vec(), rows: rows.collect() })
    }

    /// # Errors
    /// The last model is not clearly better than the first, an untrained one.
    fn check(&self) -> Result<()> {
        let mut failed = Vec::new();
        for (row, expected) in self.rows.iter().zip(&ROWS) {
            let (first, last) = (row.values[0], row.values[row.values.len() - 1]);
            if first.zip(last).is_none_or(|(first, last)| last < first + expected.margin) {
                failed.push(format!("{} ({} more than an untrained model was expected)", row.figure, expected.margin));
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => bail!("training did not improve: {}", failed.join("; ")),
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let number = |value: &Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.3}"));
        writeln!(f, "| on patients unseen in training | {} | chance | bound |", self.models.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(self.models.len() + 2))?;
        for row in &self.rows {
            let values: Vec<String> = row.values.iter().chain([&row.chance, &row.bound]).map(number).collect();
            writeln!(f, "| {} | {} |", row.figure, values.join(" | "))?;
        }
        Ok(())
    }
}

impl Row {
    fn find<'a>(&self, figures: &'a [Value]) -> Option<&'a Value> {
        figures.iter().find(|figure| {
            figure["task"] == self.task && figure["group"] == self.group && figure["name"] == self.figure
        })
    }
}

/// All figures of an evaluation, each with its task.
fn figures(report: &Path) -> Result<Vec<Value>> {
    let path = report.join("results.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let results: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let tasks = list(&results["corpora"]).into_iter().flat_map(|corpus| list(&corpus["tasks"]));
    Ok(tasks
        .flat_map(|task| {
            let name = task["task"].clone();
            list(&task["figures"]).into_iter().map(move |mut figure| {
                figure["task"] = name.clone();
                figure
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_learnt_little_fails_the_check() {
        let rows = |last: f64| {
            ROWS.iter()
                .map(|row| TableRow {
                    figure: row.label,
                    values: vec![Some(0.5), Some(0.5 + row.margin + last)],
                    chance: None,
                    bound: None,
                })
                .collect()
        };
        let table = |last| Table { models: vec!["untrained", "trained"], rows: rows(last) };
        assert!(table(0.01).check().is_ok());
        let error = table(-0.01).check().unwrap_err().to_string();
        assert!(error.contains("zero-shot, AUROC"), "{error}");
    }

    #[test]
    fn printed_commands_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("data.corpus=demo/corpus"), "data.corpus=demo/corpus");
        assert_eq!(quoted("my demo/it's"), r"'my demo/it'\''s'");
    }
}
