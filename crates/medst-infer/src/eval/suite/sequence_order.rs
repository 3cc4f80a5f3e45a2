//! Sequences of three or more studies.

use std::collections::BTreeSet;

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks};
use crate::Result;
use crate::eval::result::TaskResult;
use crate::eval::tasks::{SequenceData, SequenceOrder};
use crate::labels::truth::skip;

struct Sequences(Vec<Vec<usize>>);

/// Chooses the sequences.
pub fn plan(context: &Context<'_>, _: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let in_part = |split| context.split.is_none_or(|wanted| wanted == split);
    let long =
        context.corpus.sequences().iter().filter(|sequence| in_part(sequence.split) && sequence.studies.len() >= 3);
    let rows = long.map(|sequence| sequence.studies.iter().map(|&row| row as usize).collect());
    let sequences: Vec<Vec<usize>> = rows.collect();
    if sequences.is_empty() {
        return Err("no subject has a sequence of three or more studies".into());
    }
    Ok(Box::new(Sequences(sequences)))
}

impl Plan for Sequences {
    fn rows(&self, _: &Context<'_>) -> Vec<usize> {
        self.0.iter().flatten().copied().collect()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let studies = encoded.studies;
        let complete = |rows: &Vec<usize>| {
            let complete = rows.iter().all(|&row| studies.images.get(row).is_ok());
            if !complete {
                skip(&mut remarks.skipped, "a study of the sequence has no usable image embedding");
            }
            complete
        };
        let sequences: Vec<Vec<usize>> = self.0.into_iter().filter(complete).collect();
        let rows: Vec<usize> = sequences.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let number = |row: &usize| rows.binary_search(row).expect("rows are those of the sequences");
        let reported: Vec<usize> = rows.iter().copied().filter(|&row| studies.reports.get(row).is_ok()).collect();
        let data = SequenceData {
            images: studies.images.select(&rows),
            reports: studies.reports.select(&reported),
            report_of: rows.iter().map(|row| reported.binary_search(row).ok()).collect(),
            sequences: sequences.iter().map(|sequence| sequence.iter().map(number).collect()).collect(),
            subjects: rows.iter().map(|&row| context.subject(row)).collect(),
            rows,
        };
        SequenceOrder { bootstrap: context.bootstrap, by: &context.by }.evaluate(&data)
    }
}
