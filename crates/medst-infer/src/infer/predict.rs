//! What the head of a fine-tuned model says of images ([`crate::model::head`]).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use medst_data::gather::{Gathered, LeftOut};
use serde::Serialize;

use super::engine::Engine;
use super::stream::Collected;
use super::stream::NoteCounts;
use super::table::write_remarks;
use super::vectors::Vectors;
use crate::model::head::{Head, HeadTask};
use crate::{Error, Result};

/// Probabilities of studies, or of pairs of studies.
#[derive(Clone, Debug, Serialize)]
pub struct Predicted {
    pub task: HeadTask,
    /// Findings, classes, or a label and its class; one for each probability.
    pub names: Vec<String>,
    pub studies: Vec<PredictedStudy>,
    pub left_out: Vec<LeftOut>,
    /// How many images were read although their files are odd, by what was found and done.
    pub notes: NoteCounts,
}

/// Of one study.
#[derive(Clone, Debug, Serialize)]
pub struct PredictedStudy {
    pub study: String,
    /// The study that it is compared with, where the task is a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    pub probabilities: Vec<f64>,
}

impl Engine {
    /// The model's head.
    ///
    /// # Errors
    /// A model that was not fine-tuned.
    pub fn head(&self) -> Result<&Head> {
        self.model().head().ok_or_else(|| {
            let path = self.path().display();
            Error::Input(format!(
                "{path} has no head: it was not fine-tuned (medst finetune); zero-shot works without one"
            ))
        })
    }

    /// Probabilities of studies by the model's head; of a change, of each study but the first
    /// compared with the one before it.
    ///
    /// * `features`: `[n, H]` as of [`Engine::images`].
    ///
    /// # Errors
    /// A model without a head; a change of a single study.
    pub fn predict(&self, features: &Vectors) -> Result<Vec<Vec<f64>>> {
        let (_guard, head) = (tch::no_grad_guard(), self.head()?);
        let mut features = features.clone();
        if head.config.task == HeadTask::Change {
            if features.len() < 2 {
                return Err(Error::Input(
                    "the model predicts changes: give two or more studies, earliest first".into(),
                ));
            }
            let pairs: Vec<usize> = (1..features.len()).flat_map(|row| [row - 1, row]).collect();
            features = features.select(&pairs);
        }
        let probabilities = head.probabilities(&features.tensor().to_device(self.model().device()));
        let outputs = head.config.outputs();
        let values = Vec::<f64>::try_from(probabilities.to_kind(tch::Kind::Double).contiguous().view([-1]))?;
        Ok(values.chunks_exact(outputs).map(<[f64]>::to_vec).collect())
    }
}

/// Predicts for studies that were embedded with their features. Changes are predicted between
/// consecutive studies of a subject, ordered by time if all have one; studies without a subject
/// count as one subject's, in the order in which they were given.
///
/// # Errors
/// As [`Engine::predict`]; no image, or no subject with two.
pub fn predict(engine: &Engine, gathered: &Gathered, collected: &Collected) -> Result<Predicted> {
    let config = &engine.head()?.config;
    let left_out: Vec<LeftOut> = gathered.left_out.iter().chain(&collected.left_out).cloned().collect();
    let seen: Vec<(usize, usize)> = collected
        .studies
        .iter()
        .zip(&collected.image_of)
        .filter_map(|(&number, row)| Some((number, (*row)?)))
        .collect();
    let id = |number: usize| gathered.studies[number].id.clone();
    let of = |group: &[(usize, usize)]| -> Result<Vec<Vec<f64>>> {
        let rows: Vec<usize> = group.iter().map(|study| study.1).collect();
        engine.predict(&collected.features.select(&rows))
    };
    let mut studies = Vec::new();
    if config.task == HeadTask::Change {
        let mut subjects: BTreeMap<Option<&String>, Vec<(usize, usize)>> = BTreeMap::new();
        for &study in &seen {
            subjects.entry(gathered.studies[study.0].subject.as_ref()).or_default().push(study);
        }
        for mut group in subjects.into_values() {
            if group.iter().all(|study| gathered.studies[study.0].acquired.is_some()) {
                group.sort_by(|a, b| {
                    let [a, b] = [a, b].map(|study| gathered.studies[study.0].acquired);
                    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
                });
            }
            if group.len() > 1 {
                studies.extend(group.windows(2).zip(of(&group)?).map(|(pair, probabilities)| PredictedStudy {
                    study: id(pair[1].0),
                    previous: Some(id(pair[0].0)),
                    probabilities,
                }));
            }
        }
    } else {
        let all = of(&seen)?.into_iter().zip(&seen);
        studies.extend(all.map(|(probabilities, study)| PredictedStudy {
            study: id(study.0),
            previous: None,
            probabilities,
        }));
    }
    if studies.is_empty() {
        let what = match config.task {
            HeadTask::Change => "the model predicts changes, but no subject has two studies with images",
            _ => "no image could be used",
        };
        let first =
            left_out.first().map_or(String::new(), |left_out| format!("; {}: {}", left_out.file, left_out.reason));
        return Err(Error::Input(format!("{what}{first}")));
    }
    Ok(Predicted { task: config.task, names: config.names(), studies, left_out, notes: collected.notes.clone() })
}

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = |study: &PredictedStudy| match &study.previous {
            Some(previous) => format!("{previous} → {}", study.study),
            None => study.study.clone(),
        };
        let name = self.studies.iter().map(|study| label(study).chars().count()).max().unwrap_or(0).clamp(5, 60);
        let widths: Vec<usize> = self.names.iter().map(|class| class.chars().count().max(7)).collect();
        write!(f, "{:name$}", "study")?;
        self.names.iter().zip(&widths).try_for_each(|(class, width)| write!(f, "  {class:>width$}"))?;
        writeln!(f)?;
        for study in &self.studies {
            write!(f, "{:name$}", label(study))?;
            for (p, width) in study.probabilities.iter().zip(&widths) {
                write!(f, "  {:>width$}", format!("{:.1} %", 100.0 * p))?;
            }
            writeln!(f)?;
        }
        write_remarks(f, &self.notes, &self.left_out)
    }
}
