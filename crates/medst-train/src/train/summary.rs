//! The output of a run: one line per step, and a summary.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::log::{self, Ending, Entry, METRICS, Parts, Retrieval};
use crate::Result;
use crate::distributed::Traffic;

/// A run in a few numbers, read from its log.
#[derive(Clone, Debug, Serialize)]
pub struct RunSummary {
    pub folder: PathBuf,
    pub ending: Ending,
    pub steps: u64,
    pub total_steps: u64,
    /// Mean losses of the first and the last steps.
    pub first: Option<Parts>,
    pub last: Option<Parts>,
    /// The validation with the lowest loss.
    pub best: Option<Validated>,
    pub studies_per_second: f64,
    /// The traffic between the processes of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// A validation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Validated {
    pub step: u64,
    pub losses: Parts,
    pub retrieval: Retrieval,
}

/// The first parts in the list are losses, the others accuracies.
const LOSSES: usize = 10;

/// Steps that the first and the last losses are averaged over.
const WINDOW: usize = 5;

impl RunSummary {
    /// Reads the log of a run.
    pub fn read(folder: &Path, ending: Ending, total_steps: u64) -> Result<RunSummary> {
        let entries = log::read(&folder.join(METRICS))?;
        let mut trained = Vec::new();
        let mut best: Option<Validated> = None;
        let (mut studies, mut seconds, mut steps) = (0.0, 0.0, 0);
        for entry in &entries {
            match entry {
                Entry::Train { step, losses, studies: count, studies_per_second, .. } => {
                    steps = *step;
                    trained.push(*losses);
                    studies += *count as f64;
                    seconds += *count as f64 / studies_per_second;
                }
                Entry::Validate { step, losses, retrieval, .. } => {
                    if best.is_none_or(|best| losses.total < best.losses.total) {
                        best = Some(Validated { step: *step, losses: *losses, retrieval: *retrieval });
                    }
                }
                Entry::Evaluate { .. } => {}
            }
        }
        let window = WINDOW.min(trained.len());
        Ok(RunSummary {
            folder: folder.to_path_buf(),
            ending,
            steps,
            total_steps,
            first: mean(&trained[..window]),
            last: mean(&trained[trained.len() - window..]),
            best,
            studies_per_second: if seconds > 0.0 { studies / seconds } else { 0.0 },
            traffic: None,
        })
    }
}

fn mean(parts: &[Parts]) -> Option<Parts> {
    let mut mean = Parts::default();
    parts.iter().for_each(|part| mean.add(part, 1.0 / parts.len() as f64));
    (!parts.is_empty()).then_some(mean)
}

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match self.ending {
            Ending::Finished => "finished",
            Ending::Converged => "stopped early: the validation loss no longer improves",
            Ending::Stopped => "stopped; continue with --resume",
        };
        writeln!(f, "run {}: {ending}", self.folder.display())?;
        writeln!(f, "  {} of {} steps, {:.1} studies/s", self.steps, self.total_steps, self.studies_per_second)?;
        if let (Some(first), Some(last)) = (self.first, self.last) {
            writeln!(f, "  training loss      first steps   last steps")?;
            for ((name, first), (_, last)) in
                first.named().into_iter().zip(last.named()).take(LOSSES).filter(|(_, last)| last.1 != 0.0)
            {
                writeln!(f, "    {name:16} {first:11.3} {last:12.3}")?;
            }
        }
        match self.best {
            Some(Validated { step, losses, retrieval }) => {
                writeln!(f, "  validation, best at step {step}: loss {:.3}", losses.total)?;
                writeln!(f, "    image↔report retrieval among {} studies:", retrieval.studies)?;
                for (k, recall) in [(1, retrieval.recall_at_1), (5, retrieval.recall_at_5)] {
                    let (recall, chance) = (100.0 * recall, 100.0 * retrieval.chance(k));
                    writeln!(f, "      recall@{k} {recall:5.1} %   (chance {chance:.1} %)")?;
                }
            }
            None => writeln!(
                f,
                "  no validation: none was due yet (train.validate_every), or the split has fewer than two studies \
                 with a report"
            )?,
        }
        let model = if self.best.is_some() { "best" } else { "last" };
        writeln!(f, "  model    {}/{model}", self.folder.display())?;
        writeln!(f, "  metrics  {}/{METRICS} (and TensorBoard events next to it)", self.folder.display())
    }
}

/// A step in a few words, for a progress bar.
pub fn brief(entry: &Entry) -> String {
    match entry {
        Entry::Train { losses, studies_per_second, .. } => {
            format!("{studies_per_second:.0} studies/s, loss {:.2}", losses.total)
        }
        Entry::Validate { losses, .. } => format!("validation loss {:.2}", losses.total),
        Entry::Evaluate { task, .. } => task.name().into(),
    }
}

/// A step in one line.
pub fn line(entry: &Entry) -> String {
    match entry {
        Entry::Train { step, lr, losses, grad_norm, studies_per_second, .. } => {
            let names = ["global", "local", "forward", "reverse", "change", "findings", "boxes", "phrases", "courses"];
            let losses_by_name = losses.named();
            let parts = names.iter().zip(&losses_by_name[1..LOSSES]).filter(|(_, part)| part.1 != 0.0);
            let parts: Vec<String> = parts.map(|(name, part)| format!("{name} {:.3}", part.1)).collect();
            format!(
                "step {step}: loss {:.3} ({}), acc@1 {:.2}, |g| {grad_norm:.2}, lr {lr:.1e}, {studies_per_second:.1} studies/s",
                losses.total,
                parts.join(", "),
                losses.accuracy_at_1
            )
        }
        Entry::Validate { step, losses, retrieval, .. } => format!(
            "step {step}: validation loss {:.3}, recall@1 {:.1} % and @5 {:.1} % among {} studies",
            losses.total,
            100.0 * retrieval.recall_at_1,
            100.0 * retrieval.recall_at_5,
            retrieval.studies
        ),
        Entry::Evaluate { step, corpus, task, figures, .. } => {
            format!("step {step}: {} of {corpus}, {} figures", task.name(), figures.len())
        }
    }
}
