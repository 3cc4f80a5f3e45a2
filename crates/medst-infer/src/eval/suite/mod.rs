//! Evaluates an encoder on corpora: finds the tasks that a corpus allows and the inputs that they
//! need, and encodes these once for all tasks.
//!
//! | file | what |
//! |---|---|
//! | `job` | a task on a corpus: `Plan` is what each task implements |
//! | `temporal_image`, …: one per task | its truth, and what is to be encoded |

mod grounding;
mod job;
pub mod linear_probe;
mod progression;
mod retrieval;
mod sequence_order;
mod series_questions;
mod temporal_image;
mod temporal_sentence;
mod temporal_transfer;
mod zero_shot;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use medst_data::corpus::Corpus;
use medst_data::progress::Progress;
use medst_data::split::Split;
use serde::Serialize;

use self::job::{Context, Encoded, Job};
use super::encode::Encoder;
use super::result::{Protocol, Task, TaskResult};
use super::subgroups::Subgroups;
use crate::labels::truth::{self, MissingColumn};
use crate::stats::bootstrap::Bootstrap;
use crate::{Error, Result};

/// The options of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// The tasks; empty means all that the corpora allow.
    pub tasks: Vec<Task>,
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    /// Pairs and sentences of a benchmark are used whole, whatever the part.
    pub part: CorpusPart,
    /// The label that a linear probe learns; chosen by the corpus' labels where absent.
    pub label: Option<String>,
    /// Columns by whose values every figure is broken down.
    pub by: Vec<String>,
}

/// The studies of a corpus that are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CorpusPart {
    /// The test split; without one, the validation split; without either, all studies.
    #[default]
    HeldOut,
    Of(Split),
    All,
}

/// The results on one corpus.
#[derive(Clone, Debug, Serialize)]
pub struct CorpusResult {
    pub data: DataDescription,
    pub tasks: Vec<TaskResult>,
    pub refused: Vec<Refused>,
}

/// A task that a corpus does not allow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refused {
    pub task: Task,
    pub reason: String,
}

/// Why a task is refused on a corpus: what the corpus lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl From<&str> for Refusal {
    fn from(reason: &str) -> Refusal {
        Refusal(reason.into())
    }
}

impl From<MissingColumn> for Refusal {
    fn from(missing: MissingColumn) -> Refusal {
        Refusal(missing.to_string())
    }
}

/// Which data were used.
#[derive(Clone, Debug, Serialize)]
pub struct DataDescription {
    pub path: PathBuf,
    /// The kind of source, such as `rsna`.
    pub source: String,
    pub fingerprint: String,
    pub subjects: usize,
    pub studies: usize,
    pub with_report: usize,
    pub with_lateral: usize,
    pub sequences: usize,
    pub by_split: BTreeMap<Split, usize>,
    /// The part that was evaluated.
    pub part: String,
    pub part_studies: usize,
    pub part_subjects: usize,
}

impl Suite {
    /// Runs the tasks on every corpus. If transfer between sources is requested by name and several
    /// corpora have pairs, the last result is for all of them together.
    ///
    /// # Errors
    /// A task that was asked for and that no corpus allows; data that do not fit the encoder; a
    /// stop request.
    pub fn run(&self, encoder: &dyn Encoder, corpora: &[Corpus], progress: &dyn Progress) -> Result<Vec<CorpusResult>> {
        let mut results =
            corpora.iter().map(|corpus| self.on(encoder, corpus, progress)).collect::<Result<Vec<_>>>()?;
        if self.tasks.contains(&Task::TemporalTransfer)
            && let Some(across) = temporal_transfer::across(self, encoder, corpora, progress)?
        {
            for result in &mut results {
                result.refused.retain(|refused| refused.task != Task::TemporalTransfer);
            }
            results.push(across);
        }
        for task in &self.tasks {
            if results.iter().flat_map(|result| &result.tasks).any(|result| result.task == *task) {
                continue;
            }
            let reasons = results.iter().flat_map(|result| {
                let refused = result.refused.iter().filter(|refused| refused.task == *task);
                refused.map(|refused| format!("{}: {}", result.data.path.display(), refused.reason))
            });
            let reasons: Vec<String> = reasons.collect();
            return Err(Error::Evaluation(format!("{} cannot be evaluated: {}", task.name(), reasons.join("; "))));
        }
        Ok(results)
    }

    /// The texts that the tasks compare, one each: what an encoder of texts must encode.
    pub fn texts(&self, corpora: &[Corpus]) -> Vec<String> {
        let mut all = BTreeSet::new();
        for corpus in corpora {
            let context = self.context(corpus, 1.0);
            all.extend(self.jobs(&context).0.iter().flat_map(Job::texts));
        }
        all.into_iter().collect()
    }

    fn context<'a>(&'a self, corpus: &'a Corpus, seen: f64) -> Context<'a> {
        let holds = |split: &Split| corpus.studies().iter().any(|study| study.split == *split);
        let split = match self.part {
            CorpusPart::HeldOut => [Split::Test, Split::Validate].into_iter().find(holds),
            CorpusPart::Of(split) => Some(split),
            CorpusPart::All => None,
        };
        let studies = corpus.studies().iter().enumerate();
        Context {
            corpus,
            part: studies
                .filter(|(_, study)| split.is_none_or(|split| study.split == split))
                .map(|(row, _)| row)
                .collect(),
            split,
            label: self.label.as_deref(),
            seen,
            protocol: self.protocol,
            bootstrap: self.bootstrap,
            by: Vec::new(),
        }
    }

    /// The subgroups of a corpus.
    fn subgroups(&self, corpus: &Corpus) -> Result<Vec<Subgroups>> {
        let columns: BTreeSet<&String> = corpus.studies().iter().flat_map(|study| study.labels.keys()).collect();
        let rows: Vec<usize> = (0..corpus.studies().len()).collect();
        let fail = |reason: String| Error::Evaluation(format!("{}: {reason}", corpus.path().display()));
        let subgroups = |requested: &String| {
            let column = columns.iter().find(|column| column.eq_ignore_ascii_case(requested)).ok_or_else(|| {
                let known: Vec<&str> = columns.iter().map(|column| column.as_str()).collect();
                fail(format!("unknown column {requested}; the columns of the studies are {}", known.join(", ")))
            })?;
            let subgroups = Subgroups::new(column, &truth::values(corpus, &rows, column));
            subgroups.map_err(|error| fail(error.to_string()))
        };
        self.by.iter().map(subgroups).collect()
    }

    /// The tasks that are possible, and those that are not.
    fn jobs(&self, context: &Context<'_>) -> (Vec<Job>, Vec<Refused>) {
        let tasks = if self.tasks.is_empty() { &Task::ALL[..] } else { &self.tasks };
        let (mut jobs, mut refused) = (Vec::new(), Vec::new());
        for &task in tasks {
            match Job::plan(task, context) {
                Ok(job) => jobs.push(job),
                Err(Refusal(reason)) => refused.push(Refused { task, reason }),
            }
        }
        (jobs, refused)
    }

    fn on(&self, encoder: &dyn Encoder, corpus: &Corpus, progress: &dyn Progress) -> Result<CorpusResult> {
        let seen = encoder.seen_side(corpus) as f64 / corpus.image_size() as f64;
        let context = Context { by: self.subgroups(corpus)?, ..self.context(corpus, seen) };
        let data = describe(&context);
        if context.part.is_empty() {
            let split = context.split.map_or("any split", Split::name);
            return Err(Error::Evaluation(format!("{} has no studies in {split}", corpus.path().display())));
        }
        let (jobs, mut refused) = self.jobs(&context);
        progress.note(&format!("{}: {}", corpus.path().display(), data.part));
        let rows: BTreeSet<usize> = jobs.iter().flat_map(|job| job.rows(&context)).collect();
        let studies = encoder.studies(corpus, &rows.into_iter().collect::<Vec<_>>(), progress)?;
        let mut texts = HashMap::new();
        let mut tasks = Vec::new();
        for mut job in jobs {
            if progress.stop_requested() {
                return Err(Error::Stopped);
            }
            let task = job.task;
            let known = match add_texts(encoder, &job.texts(), &mut texts) {
                Err(Error::Evaluation(reason)) if job.do_without_texts(&reason) => Ok(()),
                known => known,
            };
            let encoded = Encoded { studies: &studies, texts: &texts, encoder };
            let evaluated = known.and_then(|()| job.evaluate(&context, &encoded));
            match evaluated {
                Ok(result) => tasks.push(result),
                Err(Error::Evaluation(reason)) => refused.push(Refused { task, reason }),
                Err(error) => return Err(error),
            }
        }
        refused.sort_by_key(|refused| refused.task);
        Ok(CorpusResult { data, tasks, refused })
    }
}

/// Encodes the texts that are not encoded yet.
fn add_texts(encoder: &dyn Encoder, wanted: &[String], known: &mut HashMap<String, Vec<f32>>) -> Result<()> {
    let fresh: BTreeSet<&String> = wanted.iter().filter(|text| !known.contains_key(*text)).collect();
    let fresh: Vec<String> = fresh.into_iter().cloned().collect();
    if !fresh.is_empty() {
        let vectors = encoder.texts(&fresh)?;
        known.extend(fresh.into_iter().zip(vectors.rows().map(<[f32]>::to_vec)));
    }
    Ok(())
}

fn describe(context: &Context<'_>) -> DataDescription {
    let Context { corpus, part, .. } = context;
    let manifest = corpus.manifest();
    let counts = &manifest.counts;
    let subjects: BTreeSet<_> = part.iter().map(|&row| &corpus.studies()[row].subject).collect();
    let name = context.split.map_or("all studies".to_string(), |split| format!("{split} split"));
    DataDescription {
        path: corpus.path().to_path_buf(),
        source: manifest.source.kind.clone(),
        fingerprint: corpus.fingerprint(),
        subjects: counts.subjects,
        studies: counts.studies,
        with_report: counts.with_report,
        with_lateral: counts.with_lateral,
        sequences: counts.sequences,
        by_split: counts.by_split.clone(),
        part: format!("{name}: {} studies of {} subjects", part.len(), subjects.len()),
        part_studies: part.len(),
        part_subjects: subjects.len(),
    }
}
