//! Several encoders on the same corpora: their figures side by side, with paired differences from
//! the first.

use std::fmt;
use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, html};
use medst_data::files::whole;
use serde::Serialize;

use super::picture::ExamplePictures;
use super::{Evaluation, READING, html as page, plot};
use crate::Result;
use crate::eval::result::{Figure, Task, Unit};

/// Evaluations of several encoders, in the order in which they were asked for.
#[derive(Debug, Serialize)]
pub struct Leaderboard {
    pub evaluations: Vec<Evaluation>,
    pub rows: Vec<Row>,
}

/// A headline figure of a task, for every encoder.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub corpus: PathBuf,
    pub task: Task,
    pub group: String,
    pub name: String,
    pub unit: Unit,
    /// One for each encoder.
    pub entries: Vec<Entry>,
}

/// An encoder's figure.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// `None` where it is undefined, or the encoder cannot do the task.
    pub value: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// This less the first encoder's.
    pub difference: Option<f64>,
    /// 95 % interval, with the same drawn subjects for both; `None` if the figures are not of the
    /// same rows.
    pub difference_interval: Option<(f64, f64)>,
}

impl Leaderboard {
    /// * `evaluations`: at least one, of the same corpora in the same order.
    pub fn new(evaluations: Vec<Evaluation>) -> Leaderboard {
        let mut rows: Vec<Row> = Vec::new();
        for (number, corpus) in evaluations.first().into_iter().flat_map(|first| first.corpora.iter().enumerate()) {
            // The tasks that some encoder can do; the figures are those of the first that can.
            for task in Task::ALL {
                let of = |evaluation: &Evaluation| {
                    evaluation.corpora.get(number)?.tasks.iter().position(|result| result.task == task)
                };
                let results: Vec<Option<usize>> = evaluations.iter().map(of).collect();
                let result = |encoder: usize| Some(&evaluations[encoder].corpora[number].tasks[results[encoder]?]);
                let Some(first) = (0..evaluations.len()).find_map(result) else { continue };
                for headline in first.headlines() {
                    let figures: Vec<Option<&Figure>> = (0..evaluations.len())
                        .map(|encoder| {
                            let same =
                                |figure: &&Figure| figure.group == headline.group && figure.name == headline.name;
                            result(encoder)?.figures.iter().find(same)
                        })
                        .collect();
                    rows.push(Row {
                        corpus: corpus.data.path.clone(),
                        task,
                        group: headline.group.clone(),
                        name: headline.name.clone(),
                        unit: headline.unit,
                        entries: figures.iter().map(|figure| Entry::new(*figure, figures[0])).collect(),
                    });
                }
            }
        }
        Leaderboard { evaluations, rows }
    }

    /// Writes `leaderboard.html` and `leaderboard.json`, and each encoder's own report in a folder
    /// named by its place; returns the page's path.
    ///
    /// * `pictures`: of each evaluation's examples, as [`Evaluation::write`] takes them.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, folder: &Path, pictures: &[Vec<ExamplePictures>]) -> Result<PathBuf> {
        for (number, evaluation) in self.evaluations.iter().enumerate() {
            let examples = pictures.get(number).map_or(&[][..], Vec::as_slice);
            evaluation.write(&folder.join((number + 1).to_string()), examples)?;
        }
        let json = serde_json::to_string_pretty(&self.rows).expect("rows are plain data");
        let page = folder.join("leaderboard.html");
        for (path, text) in
            [(folder.join("leaderboard.json"), json + "\n"), (page.clone(), self.render().into_string())]
        {
            whole::write(&path, text.as_bytes())?;
        }
        Ok(page)
    }

    fn name(&self, encoder: usize) -> String {
        format!("{}. {}", encoder + 1, self.evaluations[encoder].encoder.name)
    }

    fn render(&self) -> Markup {
        let count = self.evaluations.len();
        html! {
            (DOCTYPE)
            html lang="en" {
                (page::head(&format!("Comparison of {count} encoders")))
                body {
                    header {
                        h1 { "Comparison of " (count) " encoders" }
                        @if let Some(first) = self.evaluations.first() {
                            p.lead { (first.protocol.name()) " protocol, " (first.at) " UTC, " (first.program) " with " (first.engine) }
                        }
                        ol { @for (number, evaluation) in self.evaluations.iter().enumerate() {
                            li { a href=(format!("{}/report.html", number + 1)) { (evaluation.encoder.name) }
                                @for (name, value) in &evaluation.encoder.properties { "; " (name) " " (value) } }
                        } }
                    }
                    table.figures {
                        thead { tr {
                            th { "figure" } th { "encoder" } th.number { "value" } th { "95 % interval" } th {}
                            th.number { "less the first" } th { "95 % interval of the difference" }
                        } }
                        @for row in &self.rows {
                            tbody {
                                @for (number, entry) in row.entries.iter().enumerate() {
                                    tr {
                                        @if number == 0 {
                                            th rowspan=(count) {
                                                (row.task.title()) small { (row.name) ", " (row.group) } small { (row.corpus.display()) }
                                            }
                                        }
                                        td { (self.name(number)) }
                                        (entry.cells(row))
                                    }
                                }
                            }
                        }
                    }
                    footer {
                        h2 { "How this was made" }
                        @if let Some(first) = self.evaluations.first() { pre { (first.command_line()) } }
                        p {
                            "Differences are paired: in each replicate of the bootstrap both encoders are scored on the same drawn subjects. These \
                             subjects support a difference whose interval excludes 0; with many rows, some intervals exclude 0 by chance. "
                            @for line in READING { (line) " " }
                        }
                    }
                }
            }
        }
    }
}

impl Entry {
    fn new(figure: Option<&Figure>, first: Option<&Figure>) -> Entry {
        let value = figure.and_then(|figure| figure.value);
        let interval = figure.and_then(|figure| figure.interval);
        let both = figure.zip(first).filter(|(figure, first)| !std::ptr::eq(*figure, *first));
        let (difference, difference_interval) = match both {
            None => (None, None),
            Some((figure, first)) => match (&figure.replicates, &first.replicates) {
                (Some(replicates), Some(of_first)) => {
                    let found = replicates.less(of_first);
                    (Some(found.value), found.interval)
                }
                _ => (figure.value.zip(first.value).map(|(value, first)| value - first), None),
            },
        };
        Entry { value, interval, difference, difference_interval }
    }

    fn cells(&self, row: &Row) -> Markup {
        let unit = row.unit;
        let text = |value: Option<f64>| value.map_or(String::new(), |value| unit.text(value));
        let range = |interval: Option<(f64, f64)>| {
            interval.map_or(String::new(), |(low, high)| format!("{} to {}", unit.text(low), unit.text(high)))
        };
        let drawn =
            Figure { interval: self.interval, value: self.value, ..Figure::plain(&row.group, &row.name, unit, 0.0, 0) };
        let apart = self.difference_interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0);
        html! {
            td.number { @if self.value.is_some() { b { (text(self.value)) } @if unit == Unit::Share { " %" } } @else { "–" } }
            td.interval { (range(self.interval)) }
            td { (plot::interval(&drawn)) }
            td.number { @if apart { b { (text(self.difference)) } } @else { (text(self.difference)) } }
            td.interval { (range(self.difference_interval)) }
        }
    }
}

impl fmt::Display for Leaderboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{}, {}: {}, {}", row.corpus.display(), row.task.name(), row.name, row.group)?;
            for (number, entry) in row.entries.iter().enumerate() {
                let value = entry.value.map_or("–".into(), |value| row.unit.with_interval(value, entry.interval));
                let difference = entry.difference.map_or(String::new(), |difference| {
                    format!("; less the first {}", row.unit.with_interval(difference, entry.difference_interval))
                });
                writeln!(f, "  {}  {value}{difference}", self.name(number))?;
            }
        }
        Ok(())
    }
}
