//! Pre-training (paper, section 4.1): one visible loop.
//!
//! | file | what |
//! |---|---|
//! | [`sampler`], [`dataset`], [`sentences`], [`truth`], [`loader`] | sequences of a corpus to batches |
//! | [`optimizer`], [`schedule`] | AdamW, learning rate |
//! | [`gradients`], [`loss_scale`] | what backward passes give, within the range of the layers' precision |
//! | [`average`] | a moving average of the weights |
//! | [`lanes`] | the encoders of a small model on a thread per core |
//! | [`cached`], [`recompute`] | the gradient of a large batch, a few studies or one block at a time |
//! | [`validate`] | losses and retrieval of the validation split |
//! | [`watch`] | evaluation tasks while a model trains |
//! | `folder` | the run's folder, which one process at a time writes |
//! | [`checkpoint`], [`log`], [`tensorboard`] | what a run leaves |
//! | [`summary`] | what it says at the end |
//!
//! Everything random is a function of the seed and of where the run is, so a resumed run gives the numbers of an
//! uninterrupted one.

pub mod average;
pub mod cached;
pub mod checkpoint;
pub mod dataset;
pub(crate) mod folder;
pub mod gradients;
pub mod lanes;
pub mod loader;
pub mod log;
pub mod loss_scale;
pub mod mlflow;
pub mod optimizer;
pub mod recompute;
pub mod reduce;
pub mod sampler;
pub mod schedule;
pub mod sentences;
pub mod statements;
pub mod summary;
pub mod tensorboard;
pub mod truth;
pub mod validate;
pub mod watch;

use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::json;
use medst_data::progress::Progress;
use medst_data::ranks;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use tch::{Device, Tensor};

use self::average::Average;
use self::cached::Economy;
use self::checkpoint::{Checkpoints, Scored, State};
use self::dataset::{Crop, Dataset};
use self::folder::RunFolder;
use self::gradients::Gradients;
use self::loader::Loader;
use self::log::{Entry, Log, Parts};
use self::loss_scale::Scaled;
use self::optimizer::AdamW;
use self::schedule::Schedule;
pub use self::summary::{Ending, RunSummary};
use self::watch::{Quiet, Watch};
use crate::config::Config;
use crate::convert::Start;
use crate::distributed::share::Share;
use crate::distributed::{self, Group, broadcast_bytes};
use crate::loss;
use crate::model::card::{ModelCard, Origin, TrainingData};
use crate::model::config::{ModelConfig, Positions};
use crate::model::input::Batch;
use crate::model::{MedSt, Mode};
use crate::{Error, Result, ops};

/// The resolved configuration in a run's folder.
pub const CONFIG: &str = "config.toml";

/// A run prints a line about every hundredth of its steps, and at least about one step in a hundred.
const LINES: u64 = 100;

/// Pre-trains as configured.
///
/// * `resume`: continue the run that is in the configured folder.
///
/// A stop request (see [`Progress`]) leaves a checkpoint and ends with [`Ending::Stopped`].
///
/// # Errors
/// An unusable configuration or corpus, a folder that cannot be written or that another process writes, damaged files of a run that is
/// resumed, a loss that is not finite.
pub fn pretrain(config: &Config, resume: bool, device: Device, progress: &dyn Progress) -> Result<RunSummary> {
    let summary = pretrain_together(config, resume, device, &distributed::alone(), progress)?;
    Ok(summary.expect("the process that leads has the summary"))
}

/// As [`pretrain`], with several processes that share the batches out ([`distributed`]). The
/// numbers are those of one process, up to rounding. Process 0 reads and writes the run's folder,
/// prints messages, and returns the summary; a stop request to any process stops all.
///
/// # Errors
/// As [`pretrain`], on the process that it happens to, which then has to end the others.
pub fn pretrain_together(
    config: &Config,
    resume: bool,
    device: Device,
    group: &Group,
    progress: &dyn Progress,
) -> Result<Option<RunSummary>> {
    let quiet = Quiet(progress);
    let progress: &dyn Progress = if group.leads() { progress } else { &quiet };
    let mut folder = if group.leads() { Some(RunFolder::take(&config.train.output, CONFIG, resume)?) } else { None };
    let corpus = Corpus::open(&config.data.corpus)?;
    let pieces = vocabulary(config)?;
    check_alike(&config.to_toml()?, resume, &corpus, group)?;
    let mut checkpoints = Checkpoints::new(&config.train.output);
    let (mut begun, mut start) = (None, None);
    if group.leads() {
        if resume {
            folder::check_configuration(config)?;
            begun = checkpoints.card()?;
        }
        if begun.is_none() {
            start = Some(Start::read(&config.init.weights)?);
        }
    }
    let begun_model = begun.as_ref().map(|card| &card.model);
    let what = model_of(config, &pieces, begun_model, start.as_ref(), group)?;
    let dataset = |split| Dataset::new(&corpus, &pieces, split, &what, &config.data);
    let (training, validation) = (dataset(Split::Train)?, dataset(Split::Validate)?);
    if resume {
        check_files(&corpus, group, progress)?;
    }
    let steps_per_epoch = steps_per_epoch(&training, config)?;
    let total = (config.train.epochs * steps_per_epoch).min(config.train.max_steps.unwrap_or(u64::MAX));
    let watch = if group.leads() { Watch::open(config)? } else { None };
    let store = if group.leads() { mlflow::store()? } else { None };
    let kind = config.train.precision.kind();
    let (mut model, mut origin) = (MedSt::unwritten(&what, device, kind)?, Vec::new());
    if let Some(start) = start {
        model = MedSt::new(&what, config.train.seed, device, kind)?;
        origin = initialise(&mut model, start, config, progress)?;
    }
    let mut optimizer = AdamW::new(&model, &config.optimizer);
    let mut state = if let Some(card) = begun {
        origin = card.origin;
        checkpoints.restore(&mut model, &mut optimizer, &corpus.fingerprint(), config.train.average > 0.0, progress)?
    } else {
        State::default()
    };
    join(&mut model, &mut optimizer, &mut state, group)?;
    let average = checkpoints.average(&model, kind, config.train.average, &state, group)?;
    // What is validated, evaluated and kept for use.
    let judged = average.as_ref().map_or(&model, Average::model);
    if resume && !checkpoints.begun() {
        progress.note("the run has no checkpoint yet: it begins at its first step");
    }
    if let Some(folder) = folder.as_mut().filter(|_| !resume) {
        // Only now: a start that fails must not leave a folder that would block the next start.
        folder.begin(&config.to_toml()?)?;
    }
    let mut log = if group.leads() { Some(Log::open(config, store.as_deref(), state.step)?) } else { None };
    let schedule = Schedule {
        max: config.optimizer.lr,
        min: schedule::LEAST.min(config.optimizer.lr),
        warmup: (total as f64 * config.optimizer.warmup_fraction) as u64,
        total,
    };
    let mut save = |optimizer: &AdamW, state: &mut State| {
        optimizer.check_weights()?;
        optimizer.check_agreement(group)?;
        state.updates = optimizer.state().1;
        if !group.leads() {
            return Ok(());
        }
        let card = ModelCard {
            stored_size: Some(corpus.image_size()),
            training: Some(TrainingData::of(&corpus)),
            origin: origin.clone(),
            ..ModelCard::new(&what, &pieces, state.step, corpus.fingerprint())
        };
        let trained = (optimizer, average.as_ref().map(|_| &model));
        checkpoints.save(judged, &card, trained, state, config.data.vocabulary.as_deref()).map(|_| ())
    };
    let describe = |set: &Dataset| format!("{} studies in {} sequences", set.studies(), set.sequences.len());
    progress.note(&format!("training on {}, validating on {}", describe(&training), describe(&validation)));
    if training.silent + validation.silent > 0 {
        progress.note(&format!("{} studies have no report and are left out", training.silent + validation.silent));
    }
    if group.size() > 1 {
        progress.note(&format!("{} processes share each batch", group.size()));
    }
    progress.begin("pre-training", Some(total));
    progress.advance(state.step);

    let judge = Judge { validation: &validation, watch: watch.as_ref(), pieces: &pieces, config, group, progress };
    let line_every = (total / LINES).clamp(1, LINES);
    let mut ending = Ending::Finished;
    'run: while state.step < total {
        let crop = Crop::Random { seed: config.train.seed, epoch: state.epoch };
        let mut batches = epoch_batches(&training, config, state.epoch);
        let batches = batches.split_off(state.position.min(batches.len()));
        let shares: Vec<Share> = batches.iter().map(|numbers| Share::of(&training.lengths(numbers), group)).collect();
        let batches = shares.iter().map(|share| share.sequences.clone()).zip(batches).collect();
        let stopped = std::thread::scope(|scope| -> Result<Option<Ending>> {
            let loader = Loader::of_shares(scope, &training, batches, crop, loader::THREADS, model.device());
            let mut loader = loader.zip(shares);
            loop {
                // The wait for the loader counts: studies/s is what a user gets.
                let start = Instant::now();
                let Some((batch, share)) = loader.next().filter(|_| state.step < total) else { return Ok(None) };
                let batch = batch?;
                let rate = schedule.rate(state.step);
                let before = state.loss_scale.factor(kind);
                let scaled = state.loss_scale.differentiate(
                    kind,
                    |gradients| optimizer.norm(gradients),
                    |factor| ops::guarded(|| differentiate(&model, (&batch, &share), config, state.step, factor)),
                )?;
                let Scaled { losses, gradients, factor, norm } = scaled;
                if factor < before {
                    progress.note(&format!(
                        "gradients of step {} exceeded float16: the loss is multiplied by {factor} from now on",
                        state.step + 1
                    ));
                }
                let scale = config.optimizer.clip_norm.map_or(1.0, |limit| (limit / norm.max(1e-12)).min(1.0));
                optimizer.step(&gradients, rate, scale / factor);
                drop(gradients);
                state.step += 1;
                if let Some(average) = &average {
                    average.follow(&model, state.step);
                }
                state.position += 1;

                let studies = share.studies();
                let entry = Entry::Train {
                    step: state.step,
                    epoch: state.epoch,
                    lr: rate,
                    losses,
                    grad_norm: norm,
                    studies: studies as u64,
                    studies_per_second: studies as f64 / start.elapsed().as_secs_f64(),
                };
                if let Some(log) = &mut log {
                    log.write(&entry)?;
                }
                progress.status(&summary::brief(&entry));
                progress.advance(1);
                if state.step.is_multiple_of(line_every) {
                    progress.note(&summary::line(&entry));
                }
                let every = config.train.validate_every;
                if every > 0 && state.step.is_multiple_of(every) && judge.look(judged, &mut state, log.as_mut())? {
                    save(&optimizer, &mut state)?;
                    if config.train.patience > 0 && state.stale >= config.train.patience {
                        return Ok(Some(Ending::Converged));
                    }
                }
                if distributed::any(group, progress.stop_requested()) {
                    return Ok(Some(Ending::Stopped));
                }
            }
        })?;
        if let Some(stopped) = stopped {
            ending = stopped;
            break 'run;
        }
        state.epoch += 1;
        state.position = 0;
        if config.train.validate_every == 0 && judge.look(judged, &mut state, log.as_mut())? {
            save(&optimizer, &mut state)?;
            if config.train.patience > 0 && state.stale >= config.train.patience {
                ending = Ending::Converged;
                break 'run;
            }
        }
    }
    if ending == Ending::Finished && state.validated != state.step {
        // The interval of validation need not divide the run: its final weights are judged all the same.
        judge.look(judged, &mut state, log.as_mut())?;
    }
    progress.end();
    save(&optimizer, &mut state)?;
    // No process leaves before the checkpoint is written.
    group.gather_bytes(&[]);
    let traffic = (group.size() > 1).then(|| group.traffic());
    if let Some(traffic) = traffic {
        progress.note(&format!("passed between processes: {traffic}"));
    }
    if !group.leads() {
        return Ok(None);
    }
    if let Some(log) = &log {
        log.close(ending)?;
    }
    let summary = RunSummary::read(&config.train.output, ending, total)?;
    Ok(Some(RunSummary { traffic, ..summary }))
}

/// Refuses processes that were not given the same work.
pub(crate) fn check_alike(config: &str, resume: bool, corpus: &Corpus, group: &Group) -> Result<()> {
    let own = format!("{}\0{resume}\0{}\0{config}", env!("CARGO_PKG_VERSION"), corpus.fingerprint());
    let all = group.gather_bytes(own.as_bytes());
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::Distributed(format!(
            "process {rank} has another version, configuration, corpus or --resume than process 0; all must be started alike"
        ))),
    }
}

/// Reads the whole corpus once more before a run goes on with it; one process does, the others wait.
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

/// Takes over weights, moments and place of process 0, and batch statistics of all from now on.
fn join(model: &mut MedSt, optimizer: &mut AdamW, state: &mut State, group: &Group) -> Result<()> {
    if group.size() == 1 {
        return Ok(());
    }
    optimizer.broadcast(group);
    for buffer in model.buffers() {
        group.broadcast(&mut buffer.tensor.shallow_clone());
    }
    state.take_over(group)?;
    model.synchronise(group);
    Ok(())
}

/// Losses and gradients of one optimiser step; the gradients are `factor` times as large.
fn differentiate(
    model: &MedSt,
    (batch, share): (&Batch, &Share),
    config: &Config,
    step: u64,
    factor: f64,
) -> Result<(Parts, Vec<Tensor>)> {
    // Dropout depends on the step alone, not on what ran before.
    let seed = rand::Rng::random(&mut sampler::random([config.train.seed, step, 0, 3]));
    let mut batch = batch.to_device(model.device());
    batch.reports.draw(seed, share.first());
    let studies = batch.images.studies();
    let (losses, gradients) = match economy(config, studies) {
        economy if share.group.size() > 1 => {
            let economy = economy.unwrap_or(Economy { studies: studies.max(1), by_block: false });
            cached::differentiate_share(model, &batch, &config.loss, economy, factor, Some(share))?
        }
        Some(economy) => cached::differentiate(model, &batch, &config.loss, economy, factor)?,
        None if let Some(lanes) = lanes::lanes(model, studies) => {
            lanes::differentiate(model, &batch, &config.loss, lanes, factor)?
        }
        None => {
            let losses = loss::med_st(model, &batch, &config.loss, Mode::Train)?;
            let gradients = Gradients::of(model, &(&losses.total * factor));
            (losses, gradients)
        }
    };
    let parts = Parts::of(&losses);
    if !parts.total.is_finite() {
        return Err(Error::Training(format!("the loss of step {} is not finite: {}", step + 1, parts.listed())));
    }
    Ok((parts, gradients))
}

/// How a batch of so many studies is to save memory; `None` where its tape is kept whole.
fn economy(config: &Config, studies: i64) -> Option<Economy> {
    let (chunk, by_block) = (config.train.encode_studies as i64, config.train.checkpoint_activations);
    let chunked = chunk > 0 && chunk < studies;
    (chunked || by_block).then_some(Economy { studies: if chunked { chunk } else { studies }, by_block })
}

/// What a model is judged by while it trains.
struct Judge<'a> {
    validation: &'a Dataset<'a>,
    watch: Option<&'a Watch>,
    pieces: &'a WordPiece,
    config: &'a Config,
    group: &'a Group,
    progress: &'a dyn Progress,
}

impl Judge<'_> {
    /// Validates, evaluates, logs, and notes whether this is the best model so far; false when there is nothing to validate on.
    fn look(&self, model: &MedSt, state: &mut State, mut log: Option<&mut Log>) -> Result<bool> {
        let validated = self.validate(model, state, log.as_deref_mut())?;
        state.validated = state.step;
        if let Some(watch) = self.watch {
            for entry in watch.look(model, self.pieces, state, self.progress)? {
                log.iter_mut().try_for_each(|log| log.write(&entry))?;
            }
        }
        Ok(validated)
    }

    fn validate(&self, model: &MedSt, state: &mut State, log: Option<&mut Log>) -> Result<bool> {
        let (config, size) = (self.config, self.config.train.sequences_per_batch);
        let found = validate::validate_together(model, self.validation, &config.loss, size, self.group)?;
        let Some((losses, retrieval)) = found else { return Ok(false) };
        if !losses.total.is_finite() {
            // The update before it broke the weights. They are not written to a checkpoint; earlier
            // checkpoints are kept.
            return Err(Error::Training(format!(
                "the validation loss after step {} is not finite: {}; a lower optimizer.lr or optimizer.clip_norm may help",
                state.step,
                losses.listed()
            )));
        }
        let entry = Entry::Validate { step: state.step, epoch: state.epoch, losses, retrieval };
        if let Some(log) = log {
            log.write(&entry)?;
        }
        self.progress.note(&summary::line(&entry));
        let improved = state.best.first().is_none_or(|best| losses.total < best.loss);
        state.stale = if improved { 0 } else { state.stale + 1 };
        if improved {
            state.best = vec![Scored { step: state.step, loss: losses.total }];
        }
        Ok(true)
    }
}

fn epoch_batches(training: &Dataset, config: &Config, epoch: u64) -> Vec<Vec<usize>> {
    sampler::batches(&training.sequences, config.train.sequences_per_batch, config.train.seed, epoch)
}

fn steps_per_epoch(training: &Dataset, config: &Config) -> Result<u64> {
    match epoch_batches(training, config, 0).len() {
        0 => Err(Error::Training(format!(
            "{} holds {} training studies with a report; pre-training needs at least two in a batch",
            config.data.corpus.display(),
            training.studies()
        ))),
        batches => Ok(batches as u64),
    }
}

fn vocabulary(config: &Config) -> Result<WordPiece> {
    Ok(match &config.data.vocabulary {
        Some(path) => WordPiece::from_file(path)?,
        None => WordPiece::bert_cased(),
    })
}

/// What the run's model is: as configured, with what its vocabulary and the weights that it starts from decide, or as its last
/// checkpoint states. The same on all processes; process 0 has the weights.
fn model_of(
    config: &Config,
    pieces: &WordPiece,
    begun: Option<&ModelConfig>,
    start: Option<&Start>,
    group: &Group,
) -> Result<ModelConfig> {
    let mut own = config.model.clone();
    own.text.vocabulary = pieces.size() as i64;
    if let Some(start) = start {
        start.decide(&mut own);
    }
    let own = begun.unwrap_or(&own);
    own.validate()?;
    if group.size() == 1 {
        return Ok(own.clone());
    }
    let given = broadcast_bytes(group, json::text(own).as_bytes());
    serde_json::from_slice(&given)
        .map_err(|error| Error::Distributed(format!("the model of process 0 is not readable: {error}")))
}

/// Fills the new model from the configured files; returns which they were.
fn initialise(model: &mut MedSt, start: Start, config: &Config, progress: &dyn Progress) -> Result<Vec<Origin>> {
    let inputs = &config.init.weights;
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    let (filled, origin) = start.fill(model)?;
    let names: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    progress.note(&format!("started from {}: {}", names.join(", "), filled.brief()));
    for change in filled.files.iter().flat_map(|file| &file.changed) {
        progress.note(&format!("  {change}"));
    }
    if model.config.text.positions == Positions::Zero {
        progress.note("  every token has position 0, as in the training of these weights");
    }
    Ok(origin)
}
