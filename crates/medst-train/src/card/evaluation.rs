//! Figures of an evaluation, for a model's card.

use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};
use medst_data::input;

/// The parts of `results.json` that a card uses.
#[derive(Deserialize)]
struct Results {
    protocol: String,
    corpora: Vec<CorpusResult>,
}

#[derive(Deserialize)]
struct CorpusResult {
    data: Data,
    tasks: Vec<TaskResult>,
}

#[derive(Deserialize)]
struct Data {
    source: String,
    part: String,
    fingerprint: String,
}

#[derive(Deserialize)]
struct TaskResult {
    task: String,
    figures: Vec<Figure>,
}

#[derive(Deserialize)]
struct Figure {
    group: String,
    name: String,
    unit: String,
    value: Option<f64>,
    interval: Option<(f64, f64)>,
    chance: Option<f64>,
    rows: usize,
}

/// The figures as tables.
///
/// # Errors
/// A file that is not a result of `medst eval`.
pub fn tables(path: &Path) -> Result<String> {
    let text = input::read(path, input::TEXT).map_err(Error::io(path))?;
    let results: Results = serde_json::from_slice(&text)
        .map_err(|error| Error::Input(format!("{}: not a results.json of medst eval: {error}", path.display())))?;
    let mut out = format!("Protocol: {}. Intervals are 95 % bootstrap intervals over subjects.\n", results.protocol);
    write(&results, &mut out).expect("writing to a string cannot fail");
    Ok(out.trim_end().to_string())
}

fn write(results: &Results, out: &mut String) -> std::fmt::Result {
    for corpus in &results.corpora {
        let Data { source, part, fingerprint } = &corpus.data;
        writeln!(out, "\nOn {source} ({part}, fingerprint `{}`):\n", fingerprint.get(..16).unwrap_or(fingerprint))?;
        writeln!(out, "| task | of | figure | value (95 % interval) | chance | rows |\n|---|---|---|---|---|---|")?;
        for task in &corpus.tasks {
            for figure in task.figures.iter().filter(|figure| figure.value.is_some()) {
                writeln!(out, "| {} {}", task.task, figure.cells())?;
            }
        }
    }
    Ok(())
}

impl Figure {
    fn cells(&self) -> String {
        let number = |value: f64| match self.unit.as_str() {
            "share" => format!("{:.1} %", 100.0 * value),
            "rank" => format!("{value:.1}"),
            _ => format!("{value:.3}"),
        };
        let value = self.value.map_or(String::new(), number);
        let interval =
            self.interval.map_or(String::new(), |(low, high)| format!(" ({} to {})", number(low), number(high)));
        let chance = self.chance.map_or(String::new(), number);
        let group = self.group.replace('|', "\\|");
        format!("| {group} | {} | {value}{interval} | {chance} | {} |", self.name.replace('|', "\\|"), self.rows)
    }
}
