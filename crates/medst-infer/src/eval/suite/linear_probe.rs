//! The label, or the findings, that a linear probe learns: from which studies, and on which it is
//! tested.

use std::collections::BTreeSet;

use medst_data::corpus::Corpus;
use medst_data::split::Split;

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks};
use crate::Result;
use crate::eval::result::{Task, TaskResult};
use crate::eval::tasks::{LinearProbe, ProbeData, ProbeTruth};
use crate::labels::truth::{self, skip};

/// Column of a source's one class (COVIDx).
pub const CLASS: &str = "label";
/// Column that tables use for a diagnosis.
pub const DIAGNOSIS: &str = "finding";

struct Probe {
    rows: Vec<usize>,
    splits: Vec<Split>,
    truth: ProbeTruth,
}

impl Plan for Probe {
    fn rows(&self, _: &Context<'_>) -> Vec<usize> {
        self.rows.clone()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let features = encoded.studies.features.as_ref().unwrap_or(&encoded.studies.images);
        if encoded.studies.features.is_none() {
            let note = "the probe was trained on image embeddings, because there are no [CLS] features";
            remarks.notes.push(note.into());
        }
        let kept: Vec<usize> =
            (0..self.rows.len()).filter(|&n| remarks.usable(features, self.rows[n], "image")).collect();
        let rows: Vec<usize> = kept.iter().map(|&n| self.rows[n]).collect();
        let data = ProbeData {
            features: features.select(&rows),
            truth: self.truth.select(&kept),
            splits: kept.iter().map(|&n| self.splits[n]).collect(),
            subjects: rows.iter().map(|&row| context.subject(row)).collect(),
            rows,
        };
        let (protocol, bootstrap, by) =
            (Task::LinearProbe.protocol(context.protocol), context.bootstrap, context.by.as_slice());
        LinearProbe { protocol, bootstrap, by, ..LinearProbe::default() }.evaluate(&data)
    }
}

/// What a probe learns, from whom, and on whom it is tested.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let corpus = context.corpus;
    let tested = context.split.unwrap_or(Split::Test);
    if tested == Split::Train {
        return Err("a probe cannot be tested on its training split".into());
    }
    if tested == Split::Validate {
        remarks.notes.push("tested on the validation split".into());
    }
    // The split that is tested is the test split, whatever its name; the other one ends the
    // training, where there is one.
    let role = |split: Split| match (tested, split) {
        (_, Split::Train) => Some(Split::Train),
        (tested, split) if tested == split => Some(Split::Test),
        (Split::Test, Split::Validate) => Some(Split::Validate),
        _ => None,
    };
    let all = corpus.studies().iter().enumerate().filter_map(|(row, study)| Some((row, role(study.split)?)));
    let (rows, splits): (Vec<usize>, Vec<Split>) = all.unzip();
    for (split, name) in [(Split::Train, "training"), (Split::Test, "test")] {
        if !splits.contains(&split) {
            return Err(Refusal(format!("a probe needs {name} rows, but the corpus has none")));
        }
    }
    let column = match context.label {
        Some(label) => Some(label),
        None => [CLASS].into_iter().find(|column| has(corpus, &rows, column)),
    };
    let findings = match column {
        Some(_) => Vec::new(),
        None => truth::findings(corpus, &rows, &mut remarks.skipped),
    };
    let fallback = || Some(DIAGNOSIS).filter(|column| has(corpus, &rows, column));
    match column.or_else(|| if findings.is_empty() { fallback() } else { None }) {
        Some(column) => classes(context, column, rows, splits, remarks),
        None if findings.is_empty() => Err("no label to learn; choose a column with --label".into()),
        None => {
            remarks
                .notes
                .push(format!("learned labels: {}", listed(findings.iter().map(|finding| finding.name.as_str()))));
            let of = (0..rows.len()).map(|n| findings.iter().map(|finding| finding.there[n]).collect()).collect();
            let names = findings.into_iter().map(|finding| finding.name).collect();
            Ok(Box::new(Probe { rows, splits, truth: ProbeTruth::Findings { names, of } }))
        }
    }
}

fn has(corpus: &Corpus, rows: &[usize], column: &str) -> bool {
    truth::values(corpus, rows, column).iter().any(Option::is_some)
}

/// One of several classes: those of the training rows.
fn classes(
    context: &Context<'_>,
    column: &str,
    rows: Vec<usize>,
    splits: Vec<Split>,
    remarks: &mut Remarks,
) -> Result<Box<dyn Plan>, Refusal> {
    let values = truth::values(context.corpus, &rows, column);
    if values.iter().all(Option::is_none) {
        return Err(Refusal(format!("no study has a label {column}")));
    }
    let trained = values.iter().zip(&splits).filter(|row| *row.1 == Split::Train).filter_map(|row| *row.0);
    let names: Vec<&str> = trained.collect::<BTreeSet<_>>().into_iter().collect();
    if names.len() < 2 {
        return Err(Refusal(format!(
            "the training rows have {} classes of {column}, but a probe needs at least two",
            names.len()
        )));
    }
    let (mut kept, mut of) = (Vec::new(), Vec::new());
    for (n, value) in values.iter().enumerate() {
        match value.map(|value| names.binary_search(&value)) {
            Some(Ok(class)) => {
                kept.push(n);
                of.push(class);
            }
            Some(Err(_)) => skip(&mut remarks.skipped, format!("{column} is not a class of the training rows")),
            None => skip(&mut remarks.skipped, format!("no label {column}")),
        }
    }
    remarks.notes.push(format!("learned label {column}: {}", listed(names.iter().copied())));
    let names = names.into_iter().map(String::from).collect();
    Ok(Box::new(Probe {
        rows: kept.iter().map(|&n| rows[n]).collect(),
        splits: kept.iter().map(|&n| splits[n]).collect(),
        truth: ProbeTruth::Classes { names, of },
    }))
}

/// The first few names, and how many more.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 12 { format!("{shown} and {} more", names.len() - 12) } else { shown }
}
