//! Checkpoints: the state for resuming a run, and the model for others to use.
//!
//! `checkpoints/step-NNNNNN/` contains `model.safetensors`, `config.json` (a [`ModelCard`]),
//! `optimizer.safetensors` and `state.json`, and the vocabulary unless it is the built-in one. With
//! `train.average` the model is the moving average, and `trained.safetensors` has the weights that
//! training continues from. A checkpoint is written to a hidden folder and then renamed, so that an
//! incomplete one never has its name. `SHA256SUMS` contains the checksums of all its files, which
//! are checked when a run is resumed from it. `best` and `last` are links.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use medst_data::files::folder::{Foreign, publish_folder, recover, remove_own, seal};
use medst_data::files::sums::Sums;
use medst_data::files::{TEMPORARY, entries, sync_folder, whole};
use medst_data::progress::Progress;
use medst_data::{input, json};
use serde::{Deserialize, Serialize};
use tch::Kind;

use super::average::Average;
use super::loss_scale::LossScale;
use super::optimizer::AdamW;
use crate::distributed::{Group, broadcast_bytes};
use crate::model::MedSt;
use crate::model::card::{CARD, MODEL, ModelCard, VOCABULARY};
use crate::model::weights::{TensorFile, write_safetensors};
use crate::{Error, Result};

/// Files of checkpoints of earlier versions, which list none.
const FILES: &[&str] = &[MODEL, CARD, OPTIMIZER, STATE, TRAINED, VOCABULARY];
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const TRAINED: &str = "trained.safetensors";

/// `state.json`: where a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done.
    pub step: u64,
    pub epoch: u64,
    /// Batches of this epoch that are done.
    pub position: usize,
    /// Updates of the optimiser, for its bias corrections.
    pub updates: u64,
    /// Validations in a row without improvement.
    pub stale: u64,
    /// The step of the last validation; 0 before the first.
    pub validated: u64,
    /// The checkpoint with the lowest validation loss; earlier versions kept several, best first.
    pub best: Vec<Scored>,
    /// Absent in runs of earlier versions.
    #[serde(default)]
    pub loss_scale: LossScale,
}

impl State {
    /// Takes over the state of process 0.
    ///
    /// # Errors
    /// A message of process 0 that cannot be read.
    pub fn take_over(&mut self, group: &Group) -> Result<()> {
        let given = broadcast_bytes(group, json::text(self).as_bytes());
        *self = serde_json::from_slice(&given)
            .map_err(|error| Error::Distributed(format!("the state of process 0 is not readable: {error}")))?;
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub step: u64,
    pub loss: f64,
}

/// What a checkpoint is made of.
pub struct Snapshot<'a> {
    /// For use.
    pub model: &'a MedSt,
    pub card: &'a ModelCard,
    pub optimizer: &'a AdamW,
    /// The weights from which training continues, where they are not those of `model`.
    pub trained: Option<&'a MedSt>,
    pub state: &'a State,
    /// A vocabulary file that is not the built-in one.
    pub vocabulary: Option<&'a Path>,
}

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    run: PathBuf,
    /// The step of the checkpoint that `last` names, once this program wrote or read it.
    current: Option<u64>,
}

impl Checkpoints {
    pub fn new(run: &Path) -> Checkpoints {
        Checkpoints { run: run.to_path_buf(), current: None }
    }

    fn folder(&self, step: u64) -> PathBuf {
        self.run.join("checkpoints").join(format!("step-{step:06}"))
    }

    /// Whether the run has had a checkpoint, whole or not.
    pub fn begun(&self) -> bool {
        self.run.join("last").symlink_metadata().is_ok()
    }

    /// Moves the checkpoint that `last` names back to its place, in case a crash left it between
    /// two renames.
    fn mend(&self) -> Result<()> {
        let Ok(target) = fs::read_link(self.run.join("last")) else { return Ok(()) };
        Ok(recover(&self.run.join(target))?)
    }

    /// The newest whole checkpoint.
    pub fn last(&self) -> Option<PathBuf> {
        let last = self.run.join("last");
        last.join(STATE).exists().then_some(last)
    }

    /// What the model of the newest whole checkpoint is; `None` for a run without any.
    ///
    /// # Errors
    /// Nothing to restore, a card that is damaged.
    pub fn card(&self) -> Result<Option<ModelCard>> {
        if !self.begun() {
            return Ok(None);
        }
        let folder = self.newest()?;
        if let Some(sums) = Sums::read(&folder)? {
            sums.check(&folder, CARD)?;
        }
        ModelCard::read(&folder.join(CARD)).map(Some)
    }

    /// The newest whole checkpoint, put back in its place if need be.
    fn newest(&self) -> Result<PathBuf> {
        self.mend()?;
        self.last().ok_or_else(|| Error::Checkpoint {
            path: self.run.clone(),
            message: "there is no checkpoint to resume from".into(),
        })
    }

    /// Writes a checkpoint, points `last` (and `best`) to it, and removes those that are neither.
    ///
    /// # Errors
    /// A file that cannot be written, which the message names; earlier checkpoints are untouched
    /// then.
    pub fn save(&mut self, snapshot: &Snapshot<'_>) -> Result<PathBuf> {
        let Snapshot { model, card, optimizer, trained, state, vocabulary } = *snapshot;
        let target = self.folder(state.step);
        let parent = self.run.join("checkpoints");
        fs::create_dir_all(&parent).map_err(Error::io(&parent))?;
        let staged = parent.join(format!("{TEMPORARY}writing"));
        if staged.exists() {
            fs::remove_dir_all(&staged).map_err(Error::io(&staged))?;
        }
        fs::create_dir(&staged).map_err(Error::io(&staged))?;
        let mut known = BTreeMap::new();
        if self.current == Some(state.step) {
            // No step was done since: only the state is another. The rest is linked, not written
            // again.
            known = Sums::read(&target)?.unwrap_or_default().0;
            known.remove(STATE);
            for name in FILES.iter().filter(|name| **name != STATE && target.join(name).exists()) {
                link_or_copy(&target.join(name), &staged.join(name))?;
            }
        } else {
            model.save(&staged.join(MODEL), Some(card))?;
            let (moments, _) = optimizer.state();
            write_safetensors(&staged.join(OPTIMIZER), &moments, None)?;
            if let Some(trained) = trained {
                trained.save(&staged.join(TRAINED), None)?;
            }
            write_json(&staged.join(CARD), card)?;
            if let Some(vocabulary) = vocabulary {
                fs::copy(vocabulary, staged.join(VOCABULARY)).map_err(Error::io(vocabulary))?;
            }
        }
        write_json(&staged.join(STATE), state)?;
        seal(&staged, &known)?;
        publish_folder(&staged, &target, FILES, Foreign::Keep)?;
        link(&self.run.join("last"), state.step)?;
        self.current = Some(state.step);
        if let Some(best) = state.best.first() {
            link(&self.run.join("best"), best.step)?;
        }
        self.prune(state)?;
        Ok(target)
    }

    /// Removes checkpoints that are neither the best nor the last. Files that training did not
    /// write are kept, inside their folders and next to them.
    fn prune(&self, state: &State) -> Result<()> {
        let kept: Vec<PathBuf> =
            state.best.iter().map(|best| best.step).chain([state.step]).map(|step| self.folder(step)).collect();
        for path in entries(&self.run.join("checkpoints"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let step = name.strip_prefix("step-").and_then(|step| step.parse::<u64>().ok());
            if step.is_some_and(|step| self.folder(step) == path) && !kept.contains(&path) {
                remove_own(&path, FILES)?;
            }
        }
        Ok(())
    }

    /// Restores model, optimiser and state from the newest checkpoint.
    ///
    /// * `corpus`: fingerprint of the current corpus; the position in an epoch is meaningful only
    ///   in the corpus of the run.
    /// * `averaged`: whether the run keeps an average of its weights, which
    ///   [`Checkpoints::average`] restores.
    ///
    /// # Errors
    /// Nothing to restore, files that are damaged or do not fit, another corpus.
    pub fn restore(
        &mut self,
        model: &mut MedSt,
        optimizer: &mut AdamW,
        corpus: &str,
        averaged: bool,
        progress: &dyn Progress,
    ) -> Result<State> {
        let folder = self.newest()?;
        match Sums::read(&folder)? {
            Some(sums) => sums.check_all(&folder, &|_| {})?,
            None => progress.note("the checkpoint is of an earlier version and has no checksums, so it is not checked"),
        }
        let state: State = read_json(&folder.join(STATE))?;
        let card = ModelCard::read(&folder.join(CARD))?;
        if card.corpus != corpus {
            let message = "data.corpus differs from the corpus that the run was started with; prepare that corpus \
                           again, or start a new run with init.weights";
            return Err(Error::Checkpoint { path: folder, message: message.into() });
        }
        model.load(&folder.join(if averaged { TRAINED } else { MODEL }))?;
        let path = folder.join(OPTIMIZER);
        let moments = TensorFile::read_checked(&path)?;
        let restored = optimizer.restore(&moments.tensors, state.updates);
        restored.map_err(|misfit| Error::Checkpoint { path, message: misfit.to_string() })?;
        self.current = Some(state.step);
        Ok(state)
    }

    /// The average of a run's weights, the same on all processes: restored on resume, otherwise
    /// equal to the model; `None` if `decay` is 0.
    ///
    /// # Errors
    /// A checkpoint without an average, or with one that does not fit.
    pub fn average(
        &self,
        model: &MedSt,
        kind: Kind,
        decay: f64,
        state: &State,
        group: &Group,
    ) -> Result<Option<Average>> {
        if decay == 0.0 {
            return Ok(None);
        }
        let mut average = Average::new(model, kind, decay)?;
        if group.leads() && state.step > 0 {
            average.load(&self.run.join("last").join(MODEL))?;
        }
        average.broadcast(group);
        Ok(Some(average))
    }
}

/// Points a link of the run's folder at a checkpoint, in one move.
fn link(path: &Path, step: u64) -> Result<()> {
    let staged = path.with_extension("writing");
    let _ = fs::remove_file(&staged);
    std::os::unix::fs::symlink(format!("checkpoints/step-{step:06}"), &staged).map_err(Error::io(path))?;
    fs::rename(&staged, path).map_err(Error::io(path))?;
    Ok(sync_folder(path.parent().unwrap_or(path))?)
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    // Not every file system has links.
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ())).map_err(Error::io(from))
}

/// Writes a file that appears whole or not at all.
fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::io(path)(error.into()))?;
    Ok(whole::write(path, &text)?)
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = input::read(path, input::TEXT).map_err(Error::io(path))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Checkpoint { path: path.to_path_buf(), message: error.to_string() })
}
