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
use medst_data::hub;
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
use self::reduce::Reducer;
use self::schedule::Schedule;
pub use self::summary::{Ending, RunSummary};
use self::watch::{Quiet, Watch};
use crate::config::{Config, Take};
use crate::convert;
use crate::distributed::share::Share;
use crate::distributed::{self, Group};
use crate::loss;
use crate::model::card::{ModelCard, Origin, TrainingData};
use crate::model::config::Positions;
use crate::model::input::Batch;
use crate::model::weights::TensorFile;
use crate::model::{MedSt, Mode};
use crate::{Error, Result, ops};

/// The resolved configuration in a run's folder.
pub const CONFIG: &str = "config.toml";

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
    let dataset = |split| Dataset::new(&corpus, &pieces, split, &config.model, &config.data);
    let (training, validation) = (dataset(Split::Train)?, dataset(Split::Validate)?);
    check_alike(&config.to_toml()?, resume, &corpus, group)?;
    if resume {
        check_files(&corpus, group, progress)?;
    }
    let steps_per_epoch = steps_per_epoch(&training, config)?;
    let total = (config.train.epochs * steps_per_epoch).min(config.train.max_steps.unwrap_or(u64::MAX));
    let watch = if group.leads() { Watch::open(config)? } else { None };
    let kind = config.train.precision.kind();
    let (mut model, mut origin) = (MedSt::unwritten(&config.model, device, kind)?, Vec::new());
    if group.leads() {
        if resume {
            folder::check_configuration(config)?;
        }
        model = MedSt::new(&config.model, config.train.seed, device, kind)?;
        origin = initialise(&mut model, config, progress)?;
    }
    let mut optimizer = AdamW::new(&model, &config.optimizer);
    let mut checkpoints = Checkpoints::new(&config.train.output);
    let mut state = if group.leads() && resume && checkpoints.begun() {
        checkpoints.restore(&mut model, &mut optimizer, &corpus.fingerprint(), config.train.average > 0.0, progress)?
    } else {
        State::default()
    };
    join(&mut model, &mut optimizer, &mut state, group)?;
    let average = checkpoints.average(&model, kind, config.train.average, &state, group)?;
    // What is validated, evaluated and kept for use.
    let judged = average.as_ref().map_or(&model, Average::model);
    if resume && state.step == 0 {
        progress.note("the run has no checkpoint yet: it begins at its first step");
    }
    if let Some(folder) = folder.as_mut().filter(|_| !resume) {
        // Only now: a start that fails must not leave a folder that would block the next start.
        folder.begin(&config.to_toml()?)?;
    }
    let mut log = if group.leads() { Some(Log::open(config, state.step)?) } else { None };
    let schedule = Schedule {
        max: config.optimizer.lr,
        min: config.optimizer.min_lr,
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
            licence: config.train.licence.clone(),
            origin: origin.clone(),
            ..ModelCard::new(&config.model, &pieces, state.step, corpus.fingerprint())
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

    let mut ending = Ending::Finished;
    'run: while state.step < total {
        let crop = Crop::Random { seed: config.train.seed, epoch: state.epoch };
        let mut batches = epoch_batches(&training, config, state.epoch);
        let batches = batches.split_off(state.position.min(batches.len()));
        let shares: Vec<Share> = batches.iter().map(|numbers| Share::of(&training.lengths(numbers), group)).collect();
        let batches = shares.iter().map(|share| share.sequences.clone()).zip(batches).collect();
        let stopped = std::thread::scope(|scope| -> Result<Option<Ending>> {
            let loader = Loader::of_shares(scope, &training, batches, crop, config.data.loader_threads, model.device());
            let mut loader = loader.zip(shares);
            loop {
                // The wait for the loader counts: studies/s is what a user gets.
                let start = Instant::now();
                let read = loader.by_ref().take(config.train.accumulate).map(|(batch, share)| Ok((batch?, share)));
                let micro = read.collect::<Result<Vec<(Batch, Share)>>>()?;
                if micro.is_empty() || state.step >= total {
                    return Ok(None);
                }
                let rate = schedule.rate(state.step);
                let before = state.loss_scale.factor(kind);
                let scaled = state.loss_scale.differentiate(
                    kind,
                    |gradients| optimizer.norm(gradients),
                    |factor| ops::guarded(|| differentiate(&model, &micro, config, state.step, factor)),
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
                state.position += micro.len();

                let studies: i64 = micro.iter().map(|(_, share)| share.studies()).sum();
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
                if state.step % config.train.log_every == 0 {
                    progress.note(&summary::line(&entry));
                }
                let every = config.train.validate_every;
                if every > 0
                    && state.step % every == 0
                    && check(judged, &validation, config, &mut state, (log.as_mut(), group), progress)?
                {
                    save(&optimizer, &mut state)?;
                    if config.train.patience > 0 && state.stale >= config.train.patience {
                        return Ok(Some(Ending::Converged));
                    }
                }
                if let Some(watch) = watch.as_ref().filter(|watch| watch.is_due(state.step)) {
                    for entry in watch.look(judged, &pieces, &state, progress)? {
                        log.iter_mut().try_for_each(|log| log.write(&entry))?;
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
        if config.train.validate_every == 0
            && check(judged, &validation, config, &mut state, (log.as_mut(), group), progress)?
        {
            save(&optimizer, &mut state)?;
            if config.train.patience > 0 && state.stale >= config.train.patience {
                ending = Ending::Converged;
                break 'run;
            }
        }
    }
    if ending == Ending::Finished && state.validated != state.step {
        // The interval of validation need not divide the run: its final weights are judged all the same.
        check(judged, &validation, config, &mut state, (log.as_mut(), group), progress)?;
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

/// Losses and gradients of one optimiser step: the mean over its batches; the gradients are `factor` times as large.
fn differentiate(
    model: &MedSt,
    micro: &[(Batch, Share)],
    config: &Config,
    step: u64,
    factor: f64,
) -> Result<(Parts, Vec<Tensor>)> {
    let share_of_step = 1.0 / micro.len() as f64;
    let weight = share_of_step * factor;
    let (mut parts, mut sum) = (Parts::default(), Vec::<Tensor>::new());
    for (n, (batch, share)) in micro.iter().enumerate() {
        // Dropout depends on the step alone, not on what ran before.
        let seed = rand::Rng::random(&mut sampler::random([config.train.seed, step, n as u64, 3]));
        let mut batch = batch.to_device(model.device());
        batch.reports.draw(seed, share.first());
        let studies = batch.images.studies();
        let (losses, gradients) = match economy(config, studies) {
            economy if share.group.size() > 1 => {
                let economy = economy.unwrap_or(Economy { studies: studies.max(1), by_block: false });
                // Gradients of several batches go on their way when all are there.
                let reducer = (micro.len() == 1).then(|| Reducer::start(model, &share.group));
                cached::differentiate_share(model, &batch, &config.loss, economy, weight, Some(share), reducer)?
            }
            Some(economy) => cached::differentiate(model, &batch, &config.loss, economy, weight)?,
            None if let Some(lanes) = lanes::lanes(model, studies) => {
                lanes::differentiate(model, &batch, &config.loss, lanes, weight)?
            }
            None => {
                let losses = loss::med_st(model, &batch, &config.loss, Mode::Train)?;
                let gradients = Gradients::of(model, &(&losses.total * weight));
                (losses, gradients)
            }
        };
        let own = Parts::of(&losses);
        if !own.total.is_finite() {
            return Err(Error::Training(format!("the loss of step {} is not finite: {}", step + 1, own.listed())));
        }
        parts.add(&own, share_of_step);
        if sum.is_empty() {
            sum = gradients;
        } else {
            sum.iter_mut().zip(&gradients).for_each(|(sum, gradient)| drop(sum.g_add_(gradient)));
        }
    }
    match micro {
        [(_, share), _, ..] if share.group.size() > 1 => Ok((parts, reduce::sum_all(model, &share.group, sum))),
        _ => Ok((parts, sum)),
    }
}

/// How a batch of so many studies is to save memory; `None` where its tape is kept whole.
fn economy(config: &Config, studies: i64) -> Option<Economy> {
    let (chunk, by_block) = (config.train.encode_studies as i64, config.train.checkpoint_activations);
    let chunked = chunk > 0 && chunk < studies;
    (chunked || by_block).then_some(Economy { studies: if chunked { chunk } else { studies }, by_block })
}

/// Validates, logs, and updates the list of best checkpoints; false when there is nothing to validate on.
fn check(
    model: &MedSt,
    validation: &Dataset,
    config: &Config,
    state: &mut State,
    (log, group): (Option<&mut Log>, &Group),
    progress: &dyn Progress,
) -> Result<bool> {
    let size = config.train.sequences_per_batch;
    let Some((losses, retrieval)) = validate::validate_together(model, validation, &config.loss, size, group)? else {
        return Ok(false);
    };
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
    progress.note(&summary::line(&entry));
    let improved = state.best.first().is_none_or(|best| losses.total < best.loss);
    state.validated = state.step;
    state.stale = if improved { 0 } else { state.stale + 1 };
    let place = state.best.partition_point(|best| best.loss <= losses.total);
    state.best.insert(place, Scored { step: state.step, loss: losses.total });
    state.best.truncate(config.train.keep_best);
    Ok(true)
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
        batches => Ok(batches.div_ceil(config.train.accumulate) as u64),
    }
}

fn vocabulary(config: &Config) -> Result<WordPiece> {
    Ok(match &config.data.vocabulary {
        Some(path) => WordPiece::from_file(path)?,
        None => WordPiece::bert_cased(),
    })
}

/// Fills the new model from the configured files; returns which they were.
fn initialise(model: &mut MedSt, config: &Config, progress: &dyn Progress) -> Result<Vec<Origin>> {
    let inputs = &config.init.weights;
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    if config.init.take == Take::Encoders {
        let [input] = inputs.as_slice() else {
            return Err(Error::Config("init.take = \"encoders\" takes those of one file in init.weights".into()));
        };
        model.load_encoders(&TensorFile::read(&hub::local_weights(&input.path)?)?)?;
        progress.note(&format!("started from the encoders of {input}"));
        return convert::origins(inputs);
    }
    let (filled, origin) = convert::start(model, inputs)?;
    let names: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    progress.note(&format!("started from {}: {}", names.join(", "), filled.brief()));
    for change in filled.files.iter().flat_map(|file| &file.changed) {
        progress.note(&format!("  {change}"));
    }
    let reference = filled.files.iter().any(|file| file.zero_positions);
    if reference && config.model.text.positions == Positions::Sequential {
        progress.note("the checkpoint was trained with model.text.positions = \"zero\"; this run uses \"sequential\"");
    }
    Ok(origin)
}
