//! One arm and seed: pre-train, evaluate, keep the figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::base::Trained;
use crate::cohort::Judged;
use crate::record::{LOSSES, Point, Record};
use crate::study::Study;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub arm: String,
    pub seed: u64,
}

/// How the command is run.
#[derive(Clone, Debug)]
pub struct How {
    pub medst: PathBuf,
    pub work: PathBuf,
    pub threads: usize,
    pub device: String,
}

/// Tasks on all studies of a cohort.
const WHOLE: [&str; 4] = ["zero-shot", "grounding", "retrieval", "sequence-order"];
/// Tasks on all pairs of a cohort.
const PAIRS: [&str; 3] = ["temporal-image", "temporal-sentence", "progression"];

/// Exit code of `medst` after a request to stop.
pub const STOPPED: i32 = 130;

/// The command ended as it should not have.
#[derive(Debug)]
pub struct Failed {
    pub code: Option<i32>,
    message: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

impl How {
    /// The command, quiet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let threads = self.threads.to_string();
        let mut command = Command::new(&self.medst);
        command
            .arg("--quiet")
            .args(arguments)
            .envs([("OMP_NUM_THREADS", &threads), ("MKL_NUM_THREADS", &threads), ("RAYON_NUM_THREADS", &threads)])
            .stdin(Stdio::null());
        command
    }

    /// Runs the command quietly; its standard output.
    ///
    /// # Errors
    /// [`Failed`] with its standard error where it ends with another code than 0.
    pub fn medst(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().with_context(|| self.medst.display().to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().lines().last().unwrap_or("(nothing)").to_string();
            let message = format!("medst {}: {said}", arguments.join(" "));
            return Err(Failed { code: output.status.code(), message }.into());
        }
        String::from_utf8(output.stdout).context("medst printed something that is not UTF-8")
    }
}

/// Runs a unit. A run that fails, for example because of a loss that is not finite, is a result:
/// its record has the error.
///
/// # Errors
/// Failures that the run did not cause: a request to stop, files that cannot be written, missing
/// figures.
///
/// * `base`: weights whose encoders it starts from.
pub fn run(
    study: &Study,
    unit: &Unit,
    corpus: &Path,
    tests: &[Judged],
    base: Option<&Trained>,
    how: &How,
) -> Result<Record> {
    let folder = how.work.join("runs").join(format!("{}-{}", unit.arm, unit.seed));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let mut record = Record {
        seed: unit.seed,
        fingerprint: study.fingerprint(unit)?,
        base: base.map(|base| base.checksum.clone()),
        seconds: [0.0; 2],
        figures: BTreeMap::new(),
        losses: BTreeMap::new(),
        curve: Vec::new(),
        failed: None,
    };
    let model = folder.display().to_string();
    let config = study.pretrain.display().to_string();
    let mut settings = vec![format!("data.corpus={}", corpus.display()), format!("train.output={model}")];
    if let Some(base) = base {
        settings.push(format!("init.weights=encoders={}", base.weights.display()));
    }
    settings.extend(study.settings(unit)?);
    let mut arguments = vec!["pretrain", &config, "--device", &how.device];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    let start = Instant::now();
    let trained = how.medst(&arguments);
    record.seconds[0] = seconds(start);
    if let Err(error) = trained {
        return match error.downcast_ref::<Failed>() {
            // 2: a wrong configuration is a mistake of the study.
            Some(Failed { code: Some(1), .. }) => {
                record.failed = Some(error.to_string().rsplit(": ").next().unwrap_or_default().to_string());
                fs::remove_dir_all(&folder).ok();
                Ok(record)
            }
            Some(Failed { code: Some(STOPPED), .. }) => bail!("stopped"),
            _ => Err(error),
        };
    }
    let curve = validations(&fs::read_to_string(folder.join("metrics.jsonl"))?);
    record.losses = curve.last().map(|point| point.losses.clone()).unwrap_or_default();
    if curve.len() > 1 {
        record.curve = curve;
    }

    let start = Instant::now();
    for (place, test) in tests.iter().enumerate() {
        let asked = |task: &&str| study.table.outcomes.iter().any(|outcome| outcome.task == **task);
        let evaluate = |tasks: &[&'static str], corpus: &Path, split: &str| -> Result<Option<Value>> {
            let tasks: Vec<&str> = tasks.iter().filter(|task| asked(task)).copied().collect();
            if tasks.is_empty() {
                return Ok(None);
            }
            let corpus = corpus.display().to_string();
            // One replicate: intervals come from the seeds.
            let options = ["--model", &model, "--corpus", &corpus, "--split", split, "--replicates", "1"];
            let machine = ["--batch", "64", "--device", &how.device, "--no-pictures"];
            let printed = how.medst(&[&["--json", "eval"][..], &tasks, &options, &machine].concat())?;
            Ok(Some(serde_json::from_str(&printed)?))
        };
        let printed = [
            evaluate(&WHOLE, &test.cohort, "all")?,
            // The probe trains on the training patients of this cohort.
            evaluate(&["linear-probe"], &test.cohort, "test")?,
            evaluate(&PAIRS, &test.pairs, "all")?,
        ];
        record.figures.extend(figures(study, place, printed.iter().flatten())?);
    }
    record.seconds[1] = seconds(start);
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(record)
}

fn seconds(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 10.0).round() / 10.0
}

/// The outcomes of a test among what the calls of `medst eval` printed. One that is undefined on
/// these data is left out.
fn figures<'a>(
    study: &Study,
    test: usize,
    printed: impl Iterator<Item = &'a Value>,
) -> Result<BTreeMap<String, (f64, Option<f64>)>> {
    let array = |value: &'a Value| value.as_array().map_or(&[][..], Vec::as_slice);
    let tasks: Vec<&Value> =
        printed.flat_map(|printed| array(&printed["corpora"])).flat_map(|corpus| array(&corpus["tasks"])).collect();
    let mut found = BTreeMap::new();
    for outcome in study.table.outcomes.iter().filter(|outcome| outcome.test == test) {
        let of_task = tasks.iter().filter(|task| task["task"] == *outcome.task);
        let mut figures = of_task.flat_map(|task| array(&task["figures"]));
        let figure = figures
            .find(|figure| figure["group"] == *outcome.group && figure["name"] == *outcome.figure)
            .with_context(|| format!("outcome `{}`: medst eval printed no such figure", outcome.name))?;
        if let Some(value) = figure["value"].as_f64() {
            // Enough digits to distinguish figures, few enough for a file that is committed.
            let round = |value: f64| (value * 1e5).round() / 1e5;
            found.insert(outcome.name.clone(), (round(value), figure["chance"].as_f64().map(round)));
        }
    }
    Ok(found)
}

/// The mean losses of every validation in a run's log.
fn validations(log: &str) -> Vec<Point> {
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let point = |entry: Value| {
        let loss = |name: &str| Some((name.to_string(), (entry[name].as_f64()? * 1e4).round() / 1e4));
        let losses = LOSSES.into_iter().filter_map(loss);
        Some(Point { step: entry["step"].as_u64()?, losses: losses.collect() })
    };
    entries.filter(|entry| entry["kind"] == "validate").filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_validation_is_a_point() {
        let log = concat!(
            r#"{"kind":"validate","step":1,"total":3.0,"global":2.0}"#,
            "\n",
            r#"{"kind":"validate","step":2,"total":2.00004,"global":1.5}"#,
            "\n",
            r#"{"kind":"train","step":3,"total":9.0}"#,
            "\n",
            "{\"kind\":\"tr",
        );
        let found = validations(log);
        assert_eq!(found.iter().map(|point| point.step).collect::<Vec<_>>(), [1, 2]);
        let last = &found[1].losses;
        assert_eq!((last["total"], last["global"], last.len()), (2.0, 1.5, 2));
        assert!(validations("").is_empty());
    }
}
