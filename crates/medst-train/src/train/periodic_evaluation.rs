//! Evaluation tasks with each validation of a run, on the validation split. Nothing of them flows
//! back into the training.

use std::path::PathBuf;

use medst_data::corpus::Corpus;
use medst_data::progress::{Progress, Quiet};
use medst_data::report::WordPiece;
use medst_data::split::Split;

use super::checkpoint::State;
use super::log::{Entry, Measured};
use crate::config::Config;
use crate::eval::encode::ModelEncoder;
use crate::eval::result::{Figure, TaskResult};
use crate::eval::suite::{CorpusPart, Suite};
use crate::infer::{EngineRef, Limits, Origin, Reader};
use crate::model::MedSt;
use crate::stats::bootstrap::Bootstrap;
use crate::{Error, Result};

/// Pictures that are encoded at once.
const IMAGES: usize = 48;

/// The evaluations during a run.
pub struct PeriodicEvaluation {
    suite: Suite,
    corpora: Vec<Corpus>,
}

impl PeriodicEvaluation {
    /// Reads the section `evaluate` of a configuration; `None` without tasks.
    ///
    /// # Errors
    /// A corpus that cannot be read.
    pub fn open(config: &Config) -> Result<Option<PeriodicEvaluation>> {
        let asked = &config.evaluate;
        if asked.tasks.is_empty() {
            return Ok(None);
        }
        let training = vec![config.data.corpus.clone()];
        let paths: &[PathBuf] = if asked.corpora.is_empty() { &training } else { &asked.corpora };
        let corpora = paths.iter().map(|path| Ok(Corpus::open(path)?)).collect::<Result<_>>()?;
        let suite = Suite {
            tasks: asked.tasks.clone(),
            bootstrap: Bootstrap { replicates: 0, seed: config.train.seed },
            part: CorpusPart::Of(Split::Validate),
            ..Suite::default()
        };
        Ok(Some(PeriodicEvaluation { suite, corpora }))
    }

    /// Evaluates the current model: one entry per corpus and task. A stop request ends it early,
    /// without entries.
    ///
    /// # Errors
    /// A task that no corpus allows.
    pub fn run(&self, model: &MedSt, pieces: &WordPiece, state: &State, progress: &dyn Progress) -> Result<Vec<Entry>> {
        let reader = Reader::new(pieces.clone(), &model.config);
        let engine = EngineRef { limits: Limits::of_images(IMAGES), ..EngineRef::new(model, &reader) };
        let encoder = ModelEncoder { engine, origin: Origin::default() };
        let results = match self.suite.run(&encoder, &self.corpora, &Quiet(progress)) {
            Err(Error::Stopped) => return Ok(Vec::new()),
            results => results?,
        };
        let mut entries = Vec::new();
        for result in &results {
            let path = &result.data.path;
            let corpus = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            for task in &result.tasks {
                progress.note(&line(state.step, &corpus, task));
                entries.push(Entry::Evaluate {
                    step: state.step,
                    epoch: state.epoch,
                    corpus: corpus.clone(),
                    task: task.task,
                    figures: task.figures.iter().map(measured).collect(),
                });
            }
        }
        Ok(entries)
    }
}

fn measured(figure: &Figure) -> Measured {
    Measured { group: figure.group.clone(), name: figure.name.clone(), value: figure.value, interval: figure.interval }
}

/// The headline figures of a task.
fn line(step: u64, corpus: &str, task: &TaskResult) -> String {
    let figure = |figure: &&Figure| format!("{} {} {}", figure.group, figure.name, figure.text());
    let figures: Vec<String> = task.headlines().iter().map(figure).collect();
    format!("step {step}: {} on {corpus}: {}", task.task.name(), figures.join(", "))
}
