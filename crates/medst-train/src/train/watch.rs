//! Evaluation tasks while a model trains. They do not influence the training.

use std::path::PathBuf;

use medst_data::corpus::Corpus;
use medst_data::progress::Progress;
pub(super) use medst_data::progress::Quiet;
use medst_data::report::WordPiece;

use super::checkpoint::State;
use super::log::{Entry, Measured};
use crate::config::Config;
use crate::embed::Embedder;
use crate::eval::bootstrap::Bootstrap;
use crate::eval::encode::{ModelEncoder, Origin};
use crate::eval::result::{Figure, TaskResult};
use crate::eval::suite::{Part, Suite};
use crate::model::MedSt;
use crate::{Error, Result};

/// Studies that are encoded at once.
const BATCH: usize = 32;

/// The evaluations during a run, and when they are due.
pub struct Watch {
    suite: Suite,
    corpora: Vec<Corpus>,
    every: u64,
}

impl Watch {
    /// Reads the section `evaluate` of a configuration; `None` if evaluation is off.
    ///
    /// # Errors
    /// A corpus that cannot be read.
    pub fn open(config: &Config) -> Result<Option<Watch>> {
        let asked = &config.evaluate;
        if asked.every == 0 {
            return Ok(None);
        }
        let own = vec![config.data.corpus.clone()];
        let paths: &[PathBuf] = if asked.corpora.is_empty() { &own } else { &asked.corpora };
        let corpora = paths.iter().map(|path| Ok(Corpus::open(path)?)).collect::<Result<_>>()?;
        let suite = Suite {
            tasks: asked.tasks.clone(),
            bootstrap: Bootstrap { replicates: asked.replicates, seed: config.train.seed },
            part: Part::Of(asked.split),
            ..Suite::default()
        };
        Ok(Some(Watch { suite, corpora, every: asked.every }))
    }

    pub fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every)
    }

    /// Evaluates the current model: one entry per corpus and task. A stop request ends it early,
    /// without entries.
    ///
    /// # Errors
    /// A task that no corpus allows.
    pub fn look(
        &self,
        model: &MedSt,
        pieces: &WordPiece,
        state: &State,
        progress: &dyn Progress,
    ) -> Result<Vec<Entry>> {
        let encoder = ModelEncoder { embedder: Embedder { model, pieces }, origin: Origin::default(), batch: BATCH };
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
    let figure = |own: &&Figure| format!("{} {} {}", own.group, own.name, own.text());
    let figures: Vec<String> = task.headlines().iter().map(figure).collect();
    format!("step {step}: {} on {corpus}: {}", task.task.name(), figures.join(", "))
}
