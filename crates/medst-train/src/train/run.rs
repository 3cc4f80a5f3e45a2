//! What every training run has, whatever it learns: a model with its optimiser and its average, a
//! place in the data, and a folder that process 0 writes. Pre-training and fine-tuning add what a
//! step computes and how the model is judged.

use std::path::{Path, PathBuf};

use medst_data::corpus::Corpus;
use medst_data::progress::Progress;
use medst_data::ranks;
use tch::{Device, Kind};

use super::average::Average;
use super::checkpoint::{Checkpoints, Scored, Snapshot, State};
use super::folder::RunFolder;
use super::gradients::Differentiated;
use super::log::{Ending, Log, Logged};
use super::loss_scale::Scaled;
use super::optimizer::AdamW;
use super::schedule::Schedule;
use crate::distributed::{self, Group};
use crate::loss::scale::Scale;
use crate::model::MedSt;
use crate::model::card::ModelCard;
use crate::{Error, Result, ops};

/// What a run is opened with.
pub(crate) struct Opening<'a> {
    pub group: &'a Group,
    pub progress: &'a dyn Progress,
    /// On process 0.
    pub folder: Option<RunFolder>,
    pub output: &'a Path,
    /// An MLflow file store that the run is logged to as well.
    pub store: Option<PathBuf>,
    /// The resolved configuration (TOML), as a new run's folder keeps it.
    pub configuration: String,
    pub resume: bool,
    /// Process 0's counts, or on resume that of the last checkpoint.
    pub model: MedSt,
    pub optimizer: AdamW,
    pub kind: Kind,
    pub schedule: Schedule,
    /// Of the gradients' length; `None`: they are not clipped.
    pub clip_norm: Option<f64>,
    /// Decay of the moving average of the weights; 0: none.
    pub average: f64,
    /// The number of steps is filled in when it is written.
    pub card: ModelCard,
    /// A vocabulary file that is not the built-in one.
    pub vocabulary: Option<PathBuf>,
    /// Validations in a row without improvement after which training ends; 0: it does not.
    pub patience: u64,
}

/// A run in progress. Its folder is locked until it is dropped.
pub(crate) struct TrainingRun<'a> {
    pub group: &'a Group,
    pub progress: &'a dyn Progress,
    pub model: MedSt,
    pub state: State,
    pub schedule: Schedule,
    pub vocabulary: Option<PathBuf>,
    optimizer: AdamW,
    average: Option<Average>,
    checkpoints: Checkpoints,
    card: ModelCard,
    kind: Kind,
    clip_norm: Option<f64>,
    patience: u64,
    /// On process 0.
    log: Option<Log>,
    _folder: Option<RunFolder>,
}

/// An optimiser step that was made.
pub(crate) struct Update<T> {
    /// What was differentiated.
    pub losses: T,
    pub rate: f64,
    /// The length of all gradients together, before clipping.
    pub norm: f64,
}

impl<'a> TrainingRun<'a> {
    /// Restores the last checkpoint or begins a new run; all processes take over what process 0
    /// has.
    ///
    /// * `E`: the lines of its log.
    ///
    /// # Errors
    /// A checkpoint that does not fit, a folder that cannot be written.
    pub fn open<E: Logged>(opening: Opening<'a>) -> Result<TrainingRun<'a>> {
        let Opening { group, progress, mut folder, resume, mut model, mut optimizer, kind, card, average, .. } =
            opening;
        let mut checkpoints = Checkpoints::new(opening.output);
        let mut state = if group.leads() && resume && checkpoints.begun() {
            checkpoints.restore(&mut model, &mut optimizer, &card.corpus, average > 0.0, progress)?
        } else {
            State::default()
        };
        take_over(&model, &mut optimizer, &mut state, group)?;
        let average = checkpoints.average(&model, kind, average, &state, group)?;
        if resume && !checkpoints.begun() {
            progress.note("the run has no checkpoint yet: it begins at its first step");
        }
        if kind == Kind::Half && model.device() == Device::Cpu {
            progress.note("float16 is many times slower than float32 on a CPU");
        }
        if let Some(folder) = folder.as_mut().filter(|_| !resume) {
            // Only now: a start that fails must not leave a folder that would block the next start.
            folder.begin(&opening.configuration)?;
        }
        let open = || Log::open::<E>(opening.output, opening.store.as_deref(), &opening.configuration, state.step);
        let log = if group.leads() { Some(open()?) } else { None };
        Ok(TrainingRun {
            group,
            progress,
            model,
            state,
            schedule: opening.schedule,
            vocabulary: opening.vocabulary,
            optimizer,
            average,
            checkpoints,
            card,
            kind,
            clip_norm: opening.clip_norm,
            patience: opening.patience,
            log,
            _folder: folder,
        })
    }

    /// Whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.state.step >= self.schedule.total
    }

    /// The model that is validated, evaluated and saved: the average of the weights, where there is
    /// one.
    pub fn judged(&self) -> &MedSt {
        self.average.as_ref().map_or(&self.model, Average::model)
    }

    /// Makes one optimiser step, of one of the epoch's batches.
    ///
    /// * `differentiate`: for the model, the number of the step (from 0) and a factor, losses and
    ///   `factor` times their gradients.
    ///
    /// # Errors
    /// Those of `differentiate`; a gradient that is not finite, by the number of the step.
    pub fn update<T>(
        &mut self,
        differentiate: impl Fn(&MedSt, u64, f64) -> Result<Differentiated<T>>,
    ) -> Result<Update<T>> {
        let TrainingRun { model, state, optimizer, kind, .. } = self;
        let (rate, step) = (self.schedule.rate(state.step), state.step);
        let before = state.loss_scale.factor(*kind);
        let Scaled { losses, gradients, factor, norm } = state.loss_scale.differentiate(
            *kind,
            |gradients| {
                optimizer.norm(gradients).map_err(|error| Error::Training(format!("step {}: {error}", step + 1)))
            },
            |factor| ops::guarded(|| differentiate(model, step, factor)),
        )?;
        if factor < before {
            let step = step + 1;
            let message =
                format!("gradients of step {step} exceeded float16: the loss is multiplied by {factor} from now on");
            self.progress.note(&message);
        }
        let scale = self.clip_norm.map_or(1.0, |limit| (limit / norm.max(1e-12)).min(1.0));
        optimizer.step(&gradients, rate, scale / factor);
        Scale::limit_learned(model);
        drop(gradients);
        state.step += 1;
        state.position += 1;
        if let Some(average) = &self.average {
            average.follow(model, state.step);
        }
        Ok(Update { losses, rate, norm })
    }

    /// Writes a line of the log.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn record(&mut self, entry: &impl Logged) -> Result<()> {
        self.log.iter_mut().try_for_each(|log| log.write(entry))
    }

    /// Takes note of a validation after the last step; a lower loss is better, and of equal ones
    /// the earlier.
    pub fn judge(&mut self, loss: f64) {
        let state = &mut self.state;
        let improved = state.best.first().is_none_or(|best| loss < best.loss);
        state.validated = state.step;
        state.stale = if improved { 0 } else { state.stale + 1 };
        if improved {
            state.best = vec![Scored { step: state.step, loss }];
        }
    }

    /// Whether validations have not improved for as long as the run is to wait.
    pub fn has_converged(&self) -> bool {
        self.patience > 0 && self.state.stale >= self.patience
    }

    /// Whether any process was asked to stop.
    pub fn stop_requested(&self) -> bool {
        distributed::any(self.group, self.progress.stop_requested())
    }

    /// The next step is the first of the next epoch.
    pub fn end_epoch(&mut self) {
        self.state.epoch += 1;
        self.state.position = 0;
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// Weights that are not finite or that processes do not agree on; a file that cannot be
    /// written.
    pub fn save(&mut self) -> Result<()> {
        self.optimizer.check_weights()?;
        self.optimizer.check_agreement(self.group)?;
        self.state.updates = self.optimizer.state().1;
        if !self.group.leads() {
            return Ok(());
        }
        let card = ModelCard { step: self.state.step, ..self.card.clone() };
        let snapshot = Snapshot {
            model: self.average.as_ref().map_or(&self.model, Average::model),
            card: &card,
            optimizer: &self.optimizer,
            trained: self.average.as_ref().map(|_| &self.model),
            state: &self.state,
            vocabulary: self.vocabulary.as_deref(),
        };
        self.checkpoints.save(&snapshot).map(|_| ())
    }

    /// Writes the last checkpoint and closes the log. No process returns before the checkpoint is
    /// written.
    ///
    /// # Errors
    /// As [`TrainingRun::save`].
    pub fn close(&mut self, ending: Ending) -> Result<()> {
        self.progress.end();
        self.save()?;
        self.group.gather_bytes(&[]);
        self.log.as_ref().map_or(Ok(()), |log| log.close(ending))
    }
}

/// Takes over weights, moments and place of process 0.
fn take_over(model: &MedSt, optimizer: &mut AdamW, state: &mut State, group: &Group) -> Result<()> {
    if group.size() == 1 {
        return Ok(());
    }
    optimizer.broadcast(group);
    let _guard = tch::no_grad_guard();
    let frozen = model.parameters().iter().filter(|parameter| !parameter.working.requires_grad());
    for parameter in frozen.chain(model.buffers()) {
        let mut values = parameter.tensor.contiguous();
        group.broadcast(&mut values);
        parameter.fill(&values);
    }
    state.take_over(group)
}

/// Refuses processes that were not given the same work.
pub(crate) fn check_alike(config: &str, resume: bool, corpus: &Corpus, group: &Group) -> Result<()> {
    let work = format!("{}\0{resume}\0{}\0{config}", env!("CARGO_PKG_VERSION"), corpus.fingerprint());
    let all = group.gather_bytes(work.as_bytes());
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::Distributed(format!(
            "process {rank} has another version, configuration, corpus or --resume than process 0; all must be started alike"
        ))),
    }
}

/// Reads the whole corpus once more before a run goes on with it; one process does, the others
/// wait.
pub(crate) fn check_files(corpus: &Corpus, group: &Group, progress: &dyn Progress) -> Result<()> {
    if !group.leads() {
        ranks::wait(&**group);
        return Ok(());
    }
    ranks::lead(&**group, || corpus.check_files(progress))?;
    if group.size() > 1 {
        group.gather_bytes(b"checked");
    }
    Ok(())
}
