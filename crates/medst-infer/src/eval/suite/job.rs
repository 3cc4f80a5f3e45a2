//! A task on a corpus. Each task has a file in this folder with a [`Plan`]: the truth that it
//! reads, what it needs encoded, and how truth and vectors become its evaluator's input.

use std::collections::HashMap;

use medst_data::corpus::Corpus;
use medst_data::corpus::plan::{QUESTIONS, TextTable};
use medst_data::split::Split;

use super::{
    Refusal, grounding, linear_probe, progression, retrieval, sequence_order, series_questions, temporal_image,
    temporal_sentence, temporal_transfer, zero_shot,
};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::encode::{Encoder, RowVectors, Studies};
use crate::eval::pairs::ImagePairs;
use crate::eval::result::{Protocol, Task, TaskResult};
use crate::eval::subgroups::Subgroups;
use crate::labels::truth::{PairTruth, Skipped, skip};
use crate::stats::bootstrap::Bootstrap;

/// What of a corpus is evaluated.
pub struct Context<'a> {
    pub corpus: &'a Corpus,
    /// Rows of the chosen part.
    pub part: Vec<usize>,
    /// Its split; `None` for the whole corpus.
    pub split: Option<Split>,
    /// The column that a probe learns.
    pub label: Option<&'a str>,
    /// Share of the stored pictures' side that is seen.
    pub seen: f64,
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: Vec<Subgroups>,
}

impl Context<'_> {
    /// A table of the corpus, or how to get one.
    pub fn table(&self, name: &str) -> Result<TextTable, Refusal> {
        match self.corpus.table(name) {
            Ok(Some(table)) => Ok(table),
            Ok(None) => {
                let source = if name == QUESTIONS { "mi-cxr" } else { "ms-cxr-t" };
                Err(Refusal(format!("the corpus has no {name}.csv (create one with medst prepare {source})")))
            }
            Err(error) => Err(Refusal(error.to_string())),
        }
    }

    /// The subject of a row.
    pub fn subject(&self, row: usize) -> String {
        self.corpus.studies()[row].subject.0.clone()
    }
}

/// Vectors for what the jobs of a corpus need.
pub struct Encoded<'a> {
    pub studies: &'a Studies,
    pub texts: &'a HashMap<String, Vec<f32>>,
    pub encoder: &'a dyn Encoder,
}

impl Encoded<'_> {
    /// Vectors of texts that [`Plan::texts`] asked for.
    pub fn of_texts<S: AsRef<str>>(&self, texts: impl IntoIterator<Item = S>) -> Result<Vectors> {
        Vectors::from_rows(texts.into_iter().map(|text| &self.texts[text.as_ref()]))
    }
}

/// What a reader of the figures should know.
#[derive(Default)]
pub struct Remarks {
    pub skipped: Skipped,
    pub notes: Vec<String>,
}

impl Remarks {
    /// Whether a row has a vector; counts it otherwise.
    pub fn usable(&mut self, vectors: &RowVectors, row: usize, what: &str) -> bool {
        match vectors.get(row) {
            Ok(_) => true,
            Err(reason) => {
                skip(&mut self.skipped, format!("{what} embedding {reason}"));
                false
            }
        }
    }
}

/// A task whose truth was read from a corpus.
pub trait Plan {
    /// Rows of the corpus whose studies are to be encoded.
    fn rows(&self, _context: &Context<'_>) -> Vec<usize> {
        Vec::new()
    }

    /// Texts that are to be encoded.
    fn texts(&self) -> Vec<String> {
        Vec::new()
    }

    /// Leaves out what compares texts and returns its name; `None` where nothing would be left of
    /// the task.
    fn do_without_texts(&mut self) -> Option<&'static str> {
        None
    }

    /// Runs the task's evaluator.
    ///
    /// # Errors
    /// What the evaluator refuses.
    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult>;
}

/// A task that the corpus allows.
pub struct Job {
    pub task: Task,
    plan: Box<dyn Plan>,
    remarks: Remarks,
}

impl Job {
    /// Reads the truth that a task needs; fails with the reason if the corpus does not allow the
    /// task.
    pub fn plan(task: Task, context: &Context<'_>) -> Result<Job, Refusal> {
        let mut remarks = Remarks::default();
        let read = match task {
            Task::TemporalImage => temporal_image::plan,
            Task::TemporalSentence => temporal_sentence::plan,
            Task::TemporalTransfer => temporal_transfer::plan,
            Task::ZeroShot => zero_shot::plan,
            Task::LinearProbe => linear_probe::plan,
            Task::Retrieval => retrieval::plan,
            Task::Progression => progression::plan,
            Task::SequenceOrder => sequence_order::plan,
            Task::SeriesQuestions => series_questions::plan,
            Task::Grounding => grounding::plan,
        };
        Ok(Job { task, plan: read(context, &mut remarks)?, remarks })
    }

    /// As [`Plan::rows`].
    pub fn rows(&self, context: &Context<'_>) -> Vec<usize> {
        self.plan.rows(context)
    }

    /// As [`Plan::texts`].
    pub fn texts(&self) -> Vec<String> {
        self.plan.texts()
    }

    /// Leaves out what compares texts; false where nothing would be left of the task.
    pub fn do_without_texts(&mut self, reason: &str) -> bool {
        let left_out = self.plan.do_without_texts();
        self.remarks.notes.extend(left_out.map(|part| format!("{part} was left out: {reason}")));
        left_out.is_some()
    }

    /// As [`Plan::evaluate`], with what was skipped and noted.
    ///
    /// # Errors
    /// What the evaluator refuses.
    pub fn evaluate(self, context: &Context<'_>, encoded: &Encoded<'_>) -> Result<TaskResult> {
        let Job { plan, mut remarks, .. } = self;
        let mut result = plan.evaluate(context, encoded, &mut remarks)?;
        for (reason, count) in remarks.skipped {
            *result.skipped.entry(reason).or_default() += count;
        }
        result.notes.splice(0..0, remarks.notes);
        let studies = context.corpus.studies();
        for example in &mut result.examples {
            example.studies = example.rows.iter().map(|&row| studies[row].study.0.clone()).collect();
        }
        Ok(result)
    }
}

/// Refuses a table of pairs of which none can be used, with the reasons.
pub fn check_pairs(count: usize, skipped: &Skipped) -> Result<(), Refusal> {
    if count > 0 {
        return Ok(());
    }
    let reasons: Vec<String> = skipped.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    Err(Refusal(format!("no usable pair: {}", reasons.join("; "))))
}

/// Numbers of the pairs of which both images have a vector; the others are counted.
pub fn usable_pairs(truth: &PairTruth, images: &RowVectors, remarks: &mut Remarks) -> Vec<usize> {
    let numbers = 0..truth.studies.len();
    numbers.filter(|&n| truth.studies[n].iter().all(|&row| remarks.usable(images, row, "image"))).collect()
}

/// The usable pairs with the embeddings of both images; the others are counted.
pub fn image_pairs(truth: &PairTruth, context: &Context<'_>, images: &RowVectors, remarks: &mut Remarks) -> ImagePairs {
    pairs_of(truth, &usable_pairs(truth, images, remarks), context, images)
}

/// Usable pairs, by their numbers, with the embeddings of both images.
pub fn pairs_of(truth: &PairTruth, kept: &[usize], context: &Context<'_>, images: &RowVectors) -> ImagePairs {
    let side = |which: usize| kept.iter().map(|&n| truth.studies[n][which]).collect::<Vec<usize>>();
    let (previous, current) = (side(0), side(1));
    let courses = |(name, courses): &(String, Vec<_>)| (name.clone(), kept.iter().map(|&n| courses[n]).collect());
    ImagePairs {
        subjects: current.iter().map(|&row| context.subject(row)).collect(),
        studies: kept.iter().map(|&n| truth.studies[n]).collect(),
        findings: truth.findings.iter().map(courses).collect(),
        previous: images.select(&previous),
        current: images.select(&current),
    }
}
