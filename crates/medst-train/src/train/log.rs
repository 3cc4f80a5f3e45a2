//! What a run reports: JSON lines for programs, TensorBoard events and MLflow's file store for
//! people.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use medst_data::files::whole;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::mlflow;
use super::tensorboard::EventWriter;
use crate::eval::result::Task;
use crate::loss::Losses;
use crate::{Error, Result};
use medst_data::{input, json};

/// The parts of a loss as numbers; means where several batches were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    pub total: f64,
    pub global: f64,
    pub local: f64,
    pub forward_mapping: f64,
    pub reverse_mapping: f64,
    /// Absent in logs of earlier versions, as are the next four.
    #[serde(default)]
    pub change: f64,
    #[serde(default)]
    pub findings: f64,
    #[serde(default)]
    pub boxes: f64,
    #[serde(default)]
    pub phrases: f64,
    #[serde(default)]
    pub courses: f64,
    pub accuracy_at_1: f64,
    pub accuracy_at_5: f64,
}

impl Parts {
    pub fn from_losses(losses: &Losses) -> Parts {
        let all = [
            &losses.total,
            &losses.global,
            &losses.local,
            &losses.forward_mapping,
            &losses.reverse_mapping,
            &losses.change,
            &losses.findings,
            &losses.boxes,
            &losses.phrases,
            &losses.courses,
            &losses.accuracy_at_1,
            &losses.accuracy_at_5,
        ];
        // Read in one go: each time the host would wait for a GPU.
        let numbers = tch::no_grad(|| Tensor::stack(&all.map(|value| value.to_kind(Kind::Double)), 0));
        Parts::from_values(&Vec::try_from(numbers).expect("twelve numbers"))
    }

    /// Adds `weight` times another.
    pub fn add(&mut self, other: &Parts, weight: f64) {
        for (part, other) in self.values_mut().into_iter().zip(other.named()) {
            *part += weight * other.1;
        }
    }

    /// From the values in the order of [`Parts::named`].
    pub fn from_values(values: &[f64]) -> Parts {
        let mut parts = Parts::default();
        parts.values_mut().into_iter().zip(values).for_each(|(part, value)| *part = *value);
        parts
    }

    fn values_mut(&mut self) -> [&mut f64; 12] {
        [
            &mut self.total,
            &mut self.global,
            &mut self.local,
            &mut self.forward_mapping,
            &mut self.reverse_mapping,
            &mut self.change,
            &mut self.findings,
            &mut self.boxes,
            &mut self.phrases,
            &mut self.courses,
            &mut self.accuracy_at_1,
            &mut self.accuracy_at_5,
        ]
    }

    /// Every part in one line, for messages.
    pub fn listed(&self) -> String {
        self.named().map(|(name, value)| format!("{name} {value:.4}")).join(", ")
    }

    /// Every part under its name.
    pub fn named(&self) -> [(&'static str, f64); 12] {
        [
            ("total", self.total),
            ("global", self.global),
            ("local", self.local),
            ("forward_mapping", self.forward_mapping),
            ("reverse_mapping", self.reverse_mapping),
            ("change", self.change),
            ("findings", self.findings),
            ("boxes", self.boxes),
            ("phrases", self.phrases),
            ("courses", self.courses),
            ("accuracy_at_1", self.accuracy_at_1),
            ("accuracy_at_5", self.accuracy_at_5),
        ]
    }
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Entry {
    /// An optimiser step.
    Train {
        step: u64,
        epoch: u64,
        lr: f64,
        #[serde(flatten)]
        losses: Parts,
        grad_norm: f64,
        studies: u64,
        studies_per_second: f64,
    },
    /// The validation split after a step.
    Validate {
        step: u64,
        epoch: u64,
        #[serde(flatten)]
        losses: Parts,
        retrieval: Retrieval,
    },
    /// A task on a corpus after a step.
    Evaluate {
        step: u64,
        epoch: u64,
        /// The corpus' folder name.
        corpus: String,
        task: Task,
        figures: Vec<Measured>,
    },
}

/// A figure of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub group: String,
    pub name: String,
    /// Absent where it is undefined.
    pub value: Option<f64>,
    pub interval: Option<(f64, f64)>,
}

/// Retrieval over a whole split, both directions averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Studies to choose from.
    pub studies: u64,
    pub recall_at_1: f64,
    pub recall_at_5: f64,
}

impl Retrieval {
    /// Expected recall of guessing at `k`.
    pub fn chance(&self, k: u64) -> f64 {
        k.min(self.studies) as f64 / self.studies.max(1) as f64
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// The validation loss stopped improving.
    Converged,
    /// Stopped on request; `--resume` continues.
    Stopped,
}

/// A line of a log.
pub trait Logged: Serialize + DeserializeOwned {
    /// The optimiser step after which it was written.
    fn step(&self) -> u64;

    /// The scalars that TensorBoard shows.
    fn scalars(&self) -> Vec<(String, f64)>;
}

impl Logged for Entry {
    fn step(&self) -> u64 {
        match self {
            Entry::Train { step, .. } | Entry::Validate { step, .. } | Entry::Evaluate { step, .. } => *step,
        }
    }

    fn scalars(&self) -> Vec<(String, f64)> {
        let parts =
            |kind: &str, losses: &Parts| losses.named().map(|(name, value)| (format!("{kind}/{name}"), value)).to_vec();
        match self {
            Entry::Train { lr, losses, grad_norm, studies_per_second, .. } => {
                let mut all = parts("train", losses);
                all.push(("train/lr".into(), *lr));
                all.push(("train/grad_norm".into(), *grad_norm));
                all.push(("train/studies_per_second".into(), *studies_per_second));
                all
            }
            Entry::Validate { losses, retrieval, .. } => {
                let mut all = parts("validate", losses);
                all.push(("validate/recall_at_1".into(), retrieval.recall_at_1));
                all.push(("validate/recall_at_5".into(), retrieval.recall_at_5));
                all
            }
            Entry::Evaluate { corpus, task, figures, .. } => {
                let tag = |figure: &Measured| format!("{corpus}/{}/{}/{}", task.name(), figure.group, figure.name);
                figures.iter().filter_map(|figure| Some((tag(figure), figure.value?))).collect()
            }
        }
    }
}

/// The logs of a run.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    lines: File,
    events: EventWriter,
    store: Option<mlflow::Run>,
}

/// The file of JSON lines in a run's folder.
pub const METRICS: &str = "metrics.jsonl";

impl Log {
    /// Opens the logs of a run; lines after `step` (of a run that went further than its checkpoint)
    /// are cut off.
    ///
    /// * `E`: its lines.
    /// * `store`: an MLflow file store that the run is logged to as well, with its `configuration`
    ///   (TOML).
    pub fn open<E: Logged>(folder: &Path, store: Option<&Path>, configuration: &str, step: u64) -> Result<Log> {
        let path = folder.join(METRICS);
        let mut kept = read_as::<E>(&path)?;
        kept.retain(|entry| entry.step() <= step);
        let text: String = kept.iter().map(line).collect();
        whole::write(&path, text.as_bytes())?;
        let lines = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        let events = EventWriter::create(folder, now() as u64, step + 1).map_err(Error::io(folder))?;
        let begin = |store| mlflow::Run::open(store, folder, configuration, step, milliseconds());
        Ok(Log { path, lines, events, store: store.map(begin).transpose()? })
    }

    pub fn write(&mut self, entry: &impl Logged) -> Result<()> {
        self.lines.write_all(line(entry).as_bytes()).map_err(Error::io(&self.path))?;
        let scalars = entry.scalars();
        self.events.scalars(entry.step(), now(), &scalars).map_err(Error::io(&self.path))?;
        self.store.as_mut().map_or(Ok(()), |store| store.write(entry.step(), milliseconds(), &scalars))
    }

    /// Notes how the run ended, where a store wants to know.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn close(&self, ending: Ending) -> Result<()> {
        let status = match ending {
            Ending::Finished | Ending::Converged => mlflow::Status::Finished,
            Ending::Stopped => mlflow::Status::Killed,
        };
        self.store.as_ref().map_or(Ok(()), |store| store.close(status, milliseconds()))
    }
}

/// Reads the lines of a run; none when the file is absent. A last line that was cut off is left
/// out.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    read_as(path)
}

/// Like [`read`], for a log with another type of lines.
pub fn read_as<E: Logged>(path: &Path) -> Result<Vec<E>> {
    let Ok(file) = input::open(path) else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for text in BufReader::new(file).lines() {
        match serde_json::from_str(&text.map_err(Error::io(path))?) {
            Ok(entry) => entries.push(entry),
            Err(_) => break,
        }
    }
    Ok(entries)
}

fn line(entry: &impl Logged) -> String {
    json::text(entry) + "\n"
}

fn milliseconds() -> u64 {
    (1000.0 * now()) as u64
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
