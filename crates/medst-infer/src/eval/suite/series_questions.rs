//! The questions of `questions.csv`, as `medst prepare mi-cxr` writes them.

use std::collections::HashMap;

use medst_data::corpus::Corpus;
use medst_data::import::plan::TextTable;

use super::truth::{Skipped, skip};
use crate::eval::tasks::Question;

const VISITS: [&str; 5] = ["T1", "T2", "T3", "T4", "T5"];
const CHOICES: [&str; 5] = ["A", "B", "C", "D", "E"];

/// Reads the questions.
///
/// # Errors
/// Columns that are missing.
pub fn questions(corpus: &Corpus, table: &TextTable, skipped: &mut Skipped) -> Result<Vec<Question>, String> {
    let column = |name: &str| {
        let place = table.columns.iter().position(|column| column == name);
        place.ok_or_else(|| format!("questions.csv has no column {name}"))
    };
    let all = |names: [&str; 5]| names.into_iter().map(column).collect::<Result<Vec<usize>, String>>();
    let (visits, choices) = (all(VISITS)?, all(CHOICES)?);
    let [group, kind, words, answer] = ["group_type", "qtype", "question", "answer"].map(column);
    let (group, kind, words, answer) = (group?, kind?, words?, answer?);
    let rows: HashMap<&str, usize> =
        corpus.studies().iter().enumerate().map(|(row, study)| (study.study.0.as_str(), row)).collect();
    let mut found = Vec::new();
    for cells in &table.rows {
        let series: Option<Vec<usize>> = visits.iter().map(|&n| rows.get(cells[n].as_str()).copied()).collect();
        let Some(series) = series else {
            skip(skipped, "an image of the series is not in the corpus");
            continue;
        };
        let Some(right) = CHOICES.iter().position(|name| *name == cells[answer]) else {
            skip(skipped, format!("the answer is `{}`; expected A to E", cells[answer]));
            continue;
        };
        let told: Vec<&str> = choices.iter().map(|&n| cells[n].as_str()).collect();
        let kinds = vec![cells[group].clone(), cells[kind].clone()];
        let subject = corpus.studies()[series[0]].subject.0.clone();
        found.push(Question::new(subject, series, kinds, &cells[words], &told, right));
    }
    Ok(found)
}
