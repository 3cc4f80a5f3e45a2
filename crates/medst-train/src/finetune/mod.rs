//! Fine-tuning: an image encoder and a linear head on it, trained for one task with labels (not part of the paper).
//!
//! | file | what |
//! |---|---|
//! | [`config`] | the configuration |
//! | [`data`] | label columns of a corpus to targets |
//! | [`judge`] | figures of a head on a split; the summary of a run |
//!
//! ```text
//! L = 1/K Σ over known (b, l) of -w_l(y_bl) · log p_bl(y_bl)      K: known labels of the batch
//! ```
//!
//! `p`: sigmoid for findings, otherwise softmax over the classes of a label; `w`: 1, or
//! `n / (C · n_c)` with balanced class weights. AdamW with the learning rate
//! `lr · layer_decay^(depth + 1 - stage)`, where stage 0 is the embedding of patches, `1 + n` block
//! `n`, and the final norm and the head have `lr` (as BEiT and MAE are fine-tuned). The report
//! encoder and the projections are neither used nor changed.
//!
//! Sampling, loading, optimiser, loss scale, average, checkpoints and logs are those of [`crate::train`]. A run of several processes computes
//! the steps of one: each takes its share of a batch, and the gradients are summed.
//!
//! Letters: `B` items of a batch (studies, or pairs of studies), `L` labels, `C` classes.

pub mod config;
pub mod data;
pub mod judge;

use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::progress::{Progress, Quiet};
use medst_data::report::WordPiece;
use medst_data::split::Split;
use tch::{Device, Kind, Tensor};

pub use self::config::Config;
use self::data::{Batch, Items, Labels};
use self::judge::{Entry, Judged, Summary};
use crate::convert;
use crate::convert::group::Group as Layers;
use crate::convert::transformers::write_vocabulary;
use crate::device::send;
use crate::distributed::share::Share;
use crate::distributed::{self, Group};
use crate::eval::bootstrap::Bootstrap;
use crate::model::card::{CARD, ModelCard, TrainingData, VOCABULARY};
use crate::model::config::{Lateral, ModelConfig, Semantics};
use crate::model::head::{Head, HeadConfig};
use crate::model::open::{open_model_in, read_card};
use crate::model::{MedSt, Parameter};
use crate::train::average::Average;
use crate::train::checkpoint::{Checkpoints, Scored, State};
use crate::train::dataset::Crop;
use crate::train::folder::{RunFolder, check_same};
use crate::train::loader::Loader;
use crate::train::log::Log;
use crate::train::loss_scale::Scaled;
use crate::train::optimizer::AdamW;
use crate::train::reduce::Part;
use crate::train::schedule::Schedule;
use crate::train::{Ending, check_alike, check_files, sampler};
use crate::{Error, Result};

/// The resolved configuration in the folder of a fine-tuning run.
pub const CONFIG: &str = "finetune.toml";

/// Threads that make batches ahead of the model.
const LOADER_THREADS: usize = 2;

/// Fine-tunes as configured; several processes share the batches out. Process 0 reads and writes the run's folder, and returns the summary.
///
/// * `resume`: continue the run that is in the configured folder.
///
/// A stop request leaves a checkpoint and ends with [`Ending::Stopped`].
///
/// # Errors
/// An unusable configuration, corpus or model, labels that cannot be learnt, a folder that cannot be written, a loss that is not finite.
pub fn finetune(
    config: &Config,
    resume: bool,
    device: Device,
    group: &Group,
    progress: &dyn Progress,
) -> Result<Option<Summary>> {
    let quiet = Quiet(progress);
    let progress: &dyn Progress = if group.leads() { progress } else { &quiet };
    let (text, output, train) = (config.to_toml()?, &config.train.output, &config.train);
    let mut folder = if group.leads() { Some(RunFolder::take(output, CONFIG, resume)?) } else { None };
    let corpus = Corpus::open(&config.data.corpus)?;
    let labels = Labels::read(&corpus, &config.data, progress)?;
    check_alike(&text, resume, &corpus, group)?;
    let mut checkpoints = Checkpoints::new(output);
    let begun = resume && checkpoints.begun();
    if resume {
        check_same(&output.join(CONFIG), &Config::load(&output.join(CONFIG), &[])?.to_toml()?, &text)?;
        check_files(&corpus, group, progress)?;
    }
    let kind = train.precision.kind();
    let (mut model, card, pieces) = match begun {
        true => (MedSt::unwritten(&begun_model(config, &labels.head)?, device, kind)?, read_card(output)?.1, None),
        false => {
            let (model, card, pieces) = start(config, &labels.head, device, kind, progress)?;
            (model, card, Some(pieces))
        }
    };
    let side = model.config.image.size;
    if side > corpus.image_size() as i64 {
        return Err(Error::Config(format!(
            "the model reads images of {side} pixels, but the corpus {} has only {}; prepare it with --image-size {side} or more",
            config.data.corpus.display(),
            corpus.image_size()
        )));
    }
    let training = labels.of(Split::Train, config.data.share, train.seed);
    let validation = labels.of(Split::Validate, 1.0, train.seed);
    let batches_of = |epoch| sampler::batches(&training.rows, train.batch, train.seed, epoch);
    let varied = training.varied();
    if batches_of(0).is_empty() || !varied.contains(&true) {
        return Err(Error::Training(format!(
            "{} labelled training items (data.share = {}) have only one class of each label; there is nothing to learn",
            training.len(),
            config.data.share
        )));
    }
    for (label, _) in labels.head.labels.iter().zip(&varied).filter(|(_, varied)| !**varied) {
        progress.note(&format!("{label}: the labels that are used have only one class"));
    }
    let (parameters, factors) = trained(&model, config, &training)?;
    let mut optimizer = AdamW::of(parameters.clone(), factors, &config.optimizer.adamw());
    let mut state = match begun && group.leads() {
        true => {
            checkpoints.restore(&mut model, &mut optimizer, &corpus.fingerprint(), train.average > 0.0, progress)?
        }
        false => State::default(),
    };
    optimizer.broadcast(group);
    let model = take_over(model, &mut state, group)?;
    let average = checkpoints.average(&model, kind, train.average, &state, group)?;
    // The model that is validated and saved.
    let judged = average.as_ref().map_or(&model, Average::model);
    if let Some(folder) = folder.as_mut().filter(|_| !resume) {
        folder.begin(&text)?;
    }
    let vocabulary = output.join(VOCABULARY);
    if let Some(pieces) = pieces.filter(|own| group.leads() && own.checksum() != WordPiece::bert_cased().checksum()) {
        write_vocabulary(&vocabulary, &pieces)?;
    }
    let card = ModelCard {
        corpus: corpus.fingerprint(),
        stored_size: Some(corpus.image_size()),
        training: Some(TrainingData::of(&corpus)),
        ..card
    };
    let mut log = if group.leads() { Some(Log::open_as::<Entry>(output, state.step)?) } else { None };
    let steps_per_epoch = batches_of(0).len() as u64;
    let total = train.epochs * steps_per_epoch;
    let adamw = config.optimizer.adamw();
    let warmup = (total as f64 * adamw.warmup_fraction) as u64;
    let schedule = Schedule { max: adamw.lr, min: adamw.min_lr, warmup, total };
    let classes = labels.head.classes.len().max(2);
    let weights =
        Tensor::from_slice2(&data::weights(&training.classes, classes, train.class_weights)).to_device(device);
    let mut save = |optimizer: &AdamW, state: &mut State| {
        optimizer.check_weights()?;
        optimizer.check_agreement(group)?;
        state.updates = optimizer.state().1;
        if !group.leads() {
            return Ok(());
        }
        let card = ModelCard { step: state.step, ..card.clone() };
        let trained = (optimizer, average.as_ref().map(|_| &model));
        let vocabulary = vocabulary.exists().then_some(vocabulary.as_path());
        checkpoints.save(judged, &card, trained, state, vocabulary).map(|_| ())
    };
    progress.note(&format!("training on {} items, validating on {}", training.len(), validation.len()));
    progress.begin("fine-tuning", Some(total));
    progress.advance(state.step);

    let mut ending = Ending::Finished;
    'run: while state.step < total {
        let crop = Crop::Random { seed: train.seed, epoch: state.epoch };
        let batches = batches_of(state.epoch).split_off(state.position);
        let shares: Vec<Share> = batches.iter().map(|numbers| Share::of(&vec![1; numbers.len()], group)).collect();
        let jobs = batches.iter().zip(&shares).map(|(numbers, share)| (share.sequences.clone(), numbers.as_slice()));
        let (jobs, training) = (jobs.collect(), &training);
        let stopped = std::thread::scope(|scope| -> Result<bool> {
            let make = |(own, numbers)| training.batch(numbers, own, crop, side);
            let mut loader = Loader::of(scope, jobs, LOADER_THREADS, make);
            for numbers in &batches {
                let start = Instant::now();
                let Some(batch) = loader.next() else { break };
                let (batch, rate) = (batch?, schedule.rate(state.step));
                let known = training.known(numbers);
                let scaled = state.loss_scale.differentiate(
                    kind,
                    |gradients| optimizer.norm(gradients),
                    |factor| differentiate(&model, &parameters, &batch, &weights, known, factor, group),
                )?;
                let Scaled { losses: loss, gradients, factor, norm } = scaled;
                if !loss.is_finite() {
                    return Err(Error::Training(format!(
                        "the loss of step {} is not finite; a lower optimizer.lr may help",
                        state.step + 1
                    )));
                }
                optimizer.step(&gradients, rate, 1.0 / factor);
                state.step += 1;
                state.position += 1;
                average.iter().for_each(|average| average.follow(&model, state.step));
                let studies = (numbers.len() * training.rows[0].len()) as u64;
                let studies_per_second = studies as f64 / start.elapsed().as_secs_f64();
                let (step, epoch) = (state.step, state.epoch);
                let entry = Entry::Train { step, epoch, lr: rate, loss, grad_norm: norm, studies, studies_per_second };
                log.iter_mut().try_for_each(|log| log.write(&entry))?;
                progress.status(&format!("loss {loss:.4}"));
                progress.advance(1);
                if distributed::any(group, progress.stop_requested()) {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if stopped {
            ending = Ending::Stopped;
            break 'run;
        }
        state.epoch += 1;
        state.position = 0;
        let found = Judged::of(judged, &validation, train.batch, group)?;
        if let Some(figure) = found.figure(&labels.head) {
            let (step, epoch) = (state.step, state.epoch);
            let entry = found.entry(&labels.head, figure, step, epoch);
            log.iter_mut().try_for_each(|log| log.write(&entry))?;
            progress.note(&format!("step {step}  {}: {figure:.4}", judge::name(labels.head.task)));
            state.validated = step;
            // Lower is better, as in pre-training; of equal figures the earlier one.
            let loss = 1.0 - figure;
            let improved = state.best.first().is_none_or(|best| loss < best.loss);
            state.stale = if improved { 0 } else { state.stale + 1 };
            if improved {
                state.best = vec![Scored { step, loss }];
            }
            save(&optimizer, &mut state)?;
            if train.patience > 0 && state.stale >= train.patience {
                ending = Ending::Converged;
                break 'run;
            }
        }
    }
    progress.end();
    save(&optimizer, &mut state)?;
    // No process leaves before the checkpoint is written.
    group.gather_bytes(&[]);
    if !group.leads() {
        return Ok(None);
    }
    let best = open_model_in(output, device, train.precision)?;
    let alone = distributed::alone();
    let figures = |items: &Items| {
        let judged = Judged::of(&best.model, items, train.batch, &alone)?;
        Ok::<_, Error>(judged.figures(&labels.head, items, Bootstrap::default()))
    };
    let test = labels.of(Split::Test, 1.0, train.seed);
    Ok(Some(Summary {
        folder: output.clone(),
        ending,
        steps: state.step,
        total_steps: total,
        used: best.card.step,
        trained_on: training.len(),
        validation: figures(&validation)?,
        test: figures(&test)?,
        head: labels.head.clone(),
    }))
}

/// The model to start from, with its card and vocabulary.
fn start(
    config: &Config,
    head: &HeadConfig,
    device: Device,
    kind: Kind,
    progress: &dyn Progress,
) -> Result<(MedSt, ModelCard, WordPiece)> {
    let inputs = &config.init.weights;
    let (model, card, pieces, filled) = convert::with_head(inputs, head.clone(), config.train.seed, device, kind)?;
    let names: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    if !filled.has(Layers::ImageEncoder) {
        return Err(Error::Config(format!("init.weights = {}: it has no image encoder", names.join(", "))));
    }
    progress.note(&format!("started from {}: {}", names.join(", "), filled.brief()));
    Ok((model, card, pieces))
}

/// The model of a run that has been started before.
///
/// # Errors
/// A head for other labels or classes than those of the corpus and the configuration.
fn begun_model(config: &Config, wanted: &HeadConfig) -> Result<ModelConfig> {
    let folder = config.train.output.join("last");
    let (_, card) = read_card(&folder)?;
    match &card.model.head {
        Some(head) if head == wanted => Ok(card.model),
        head => {
            let names = |head: &HeadConfig| format!("{} outputs ({})", head.outputs(), head.names().join("; "));
            let message = format!(
                "its head has {}, but the labels of {} ask for {}; start a new run",
                head.as_ref().map_or("no outputs".into(), names),
                config.data.corpus.display(),
                names(wanted)
            );
            Err(Error::Checkpoint { path: folder.join(CARD), message })
        }
    }
}

/// The trained parameters, each with the factor of its learning rate. All others are ignored from
/// here on.
///
/// # Errors
/// More frozen stages than there are.
fn trained(model: &MedSt, config: &Config, training: &Items) -> Result<(Vec<Parameter>, Vec<f64>)> {
    let depth = model.config.image.depth as usize;
    if config.init.frozen > depth + 2 {
        return Err(Error::Config(format!(
            "init.frozen = {}: the image encoder has {} stages (the patch embedding, {depth} blocks and the final norm); freeze at most that many",
            config.init.frozen,
            depth + 2
        )));
    }
    let lateral = model.config.lateral == Lateral::Expert
        && (model.config.semantics == Semantics::Reference || training.have_lateral());
    let (mut parameters, mut factors) = (Vec::new(), Vec::new());
    for own in model.parameters() {
        match factor(&own.name, depth, lateral, config) {
            Some(factor) => {
                parameters.push(own.clone());
                factors.push(factor);
            }
            // The tape does not pass through it, so libtorch computes no gradient for it.
            None => drop(own.working.set_requires_grad(false)),
        }
    }
    Ok((parameters, factors))
}

/// The factor of a parameter's learning rate; `None` if the parameter is not trained.
///
/// * `lateral`: whether lateral views go through separate experts.
fn factor(name: &str, depth: usize, lateral: bool, config: &Config) -> Option<f64> {
    if name.starts_with("task_head.") {
        return Some(1.0);
    }
    let Part::Image(stage) = Part::of(name, depth + 1) else { return None };
    // After the last block only the state of [CLS] is used, which is a frontal token.
    let unused = name.contains(".lateral_expert.") && (!lateral || stage == depth);
    (stage >= config.init.frozen && !unused).then(|| config.optimizer.layer_decay.powi((depth + 1 - stage) as i32))
}

/// Takes over weights and state of process 0.
fn take_over(model: MedSt, state: &mut State, group: &Group) -> Result<MedSt> {
    if group.size() > 1 {
        let _guard = tch::no_grad_guard();
        for own in model.parameters().iter().chain(model.buffers()) {
            let mut values = own.tensor.contiguous();
            group.broadcast(&mut values);
            own.fill(&values);
        }
        state.take_over(group)?;
    }
    Ok(model)
}

/// The head of a model that is being fine-tuned.
fn head(model: &MedSt) -> &Head {
    model.head().expect("the model was made with a head")
}

/// Logits `[B, O]` of a batch.
fn logits(model: &MedSt, batch: &Batch) -> Result<Tensor> {
    Ok(head(model).forward(&model.encode_whole_images(&batch.images.to_device(model.device()))?))
}

/// The sum of the losses of known labels.
///
/// * `logits`: `[B, O]`; * `targets`: `[B, L]` int64, -1 where the label is unknown; * `weights`: `[L, C]`.
fn loss(head: &Head, logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Tensor {
    let all = head.log_probabilities(logits);
    let known = targets.ge(0);
    let class = targets.clamp_min(0).unsqueeze(2);
    let chosen = all.gather(2, &class, false).squeeze_dim(2);
    let weight = weights.unsqueeze(0).expand_as(&all).gather(2, &class, false).squeeze_dim(2);
    -(chosen * weight.to_kind(all.kind()) * known.to_kind(all.kind())).sum(None::<Kind>)
}

/// The loss of a step and `factor` times its gradient by the trained parameters, both of the whole batch, of which this process has a share.
///
/// * `known`: number of known labels in the whole batch.
fn differentiate(
    model: &MedSt,
    parameters: &[Parameter],
    batch: &Batch,
    weights: &Tensor,
    known: usize,
    factor: f64,
    group: &Group,
) -> Result<(f64, Vec<Tensor>)> {
    let working: Vec<&Tensor> = parameters.iter().map(|own| &own.working).collect();
    let targets = send(&batch.targets, model.device());
    let (own, found) = match batch.images.studies() {
        // More processes than items.
        0 => (0.0, working.iter().map(|_| Tensor::new()).collect()),
        _ => {
            let loss = loss(head(model), &logits(model, batch)?, &targets, weights) / known.max(1) as f64;
            let found = Tensor::run_backward(&[&loss * factor], &working, false, false);
            (loss.double_value(&[]), found)
        }
    };
    let precise = |(gradient, own): (Tensor, &Parameter)| match gradient.defined() {
        true => gradient.to_kind(own.tensor.kind()),
        false => own.tensor.zeros_like(),
    };
    let gradients: Vec<Tensor> = found.into_iter().zip(parameters).map(precise).collect();
    if group.size() == 1 {
        return Ok((own, gradients));
    }
    let mut flat = Tensor::cat(&gradients.iter().map(|own| own.reshape([-1])).collect::<Vec<_>>(), 0);
    group.sum(&mut flat);
    let lengths: Vec<i64> = gradients.iter().map(|own| own.numel() as i64).collect();
    let parts = flat.split_with_sizes(&lengths, 0).into_iter().zip(&gradients);
    let summed = parts.map(|(part, own)| part.view_as(own)).collect();
    Ok((distributed::sum_numbers(group, &[own])[0], summed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::head::HeadTask;
    use crate::model::parameters::Scope;

    fn config(settings: &[&str]) -> Config {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        Config::parse("[init]\nweights = \"phantom\"\n", &settings).unwrap()
    }

    #[test]
    fn rates_fall_from_the_head_to_the_pixels_and_frozen_stages_have_none() {
        let of = |name: &str, config: &Config| factor(name, 3, true, config);
        let decayed = config(&["optimizer.layer_decay=0.5"]);
        for (name, expected) in [
            ("task_head.weight", Some(1.0)),
            ("image_encoder.norm.weight", Some(1.0)),
            ("image_encoder.blocks.2.norm.weight", Some(0.5)),
            ("image_encoder.blocks.0.norm.weight", Some(0.125)),
            ("image_encoder.stem.0.weight", Some(0.0625)),
            ("image_encoder.class_token", Some(0.0625)),
            ("image_encoder.blocks.1.lateral_expert.norm.weight", Some(0.25)),
            // Its output is not used.
            ("image_encoder.blocks.2.lateral_expert.norm.weight", None),
            ("report_encoder.layers.0.norm.weight", None),
            ("image_global.expand.weight", None),
        ] {
            assert_eq!(of(name, &decayed), expected, "{name}");
        }
        let frozen = config(&["init.frozen=2", "optimizer.layer_decay=1.0"]);
        assert_eq!(of("image_encoder.positions", &frozen), None);
        assert_eq!(of("image_encoder.blocks.0.norm.weight", &frozen), None);
        assert_eq!(of("image_encoder.blocks.1.norm.weight", &frozen), Some(1.0));
        assert_eq!(factor("image_encoder.blocks.1.lateral_expert.norm.weight", 3, false, &frozen), None);
        let all = config(&["init.frozen=5"]);
        assert_eq!(of("image_encoder.norm.bias", &all), None);
        assert_eq!(of("task_head.bias", &all), Some(1.0));
    }

    /// Compared with libtorch's own cross-entropies.
    #[test]
    fn the_loss_is_cross_entropy_over_known_labels() {
        let scope = Scope::root(0.5, Some(1), Kind::Double, Device::Cpu);
        let head = |task, labels: &[&str], classes: &[&str]| {
            let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
            Head::new(&scope, &HeadConfig { task, labels: words(labels), classes: words(classes) }, 2)
        };
        let logits = Tensor::from_slice(&[0.3, -1.2, 2.0, 0.5]).view([2, 2]);
        let targets = Tensor::from_slice(&[1i64, 0, -1, 1]).view([2, 2]);
        let weights = Tensor::from_slice(&[0.5, 2.0, 1.0, 3.0]).view([2, 2]);
        let found = loss(&head(HeadTask::Findings, &["a", "b"], &[]), &logits, &targets, &weights);
        let minus_log = |x: f64| (1.0 + (-x).exp()).ln();
        let expected = 2.0 * minus_log(0.3) + 1.0 * minus_log(1.2) + 3.0 * minus_log(0.5);
        assert!((found.double_value(&[]) - expected).abs() < 1e-12);
        let own = head(HeadTask::Exclusive, &["x"], &["p", "q"]);
        let (classes, weights) = (Tensor::from_slice(&[1i64, 0]), Tensor::from_slice(&[0.7, 1.3]));
        let found = loss(&own, &logits, &classes.unsqueeze(1), &weights.unsqueeze(0));
        let theirs = logits.cross_entropy_loss(&classes, Some(&weights), tch::Reduction::Sum, -100, 0.0);
        assert!((found.double_value(&[]) - theirs.double_value(&[])).abs() < 1e-12);
        // With nothing known the loss is zero.
        let unknown = Tensor::from_slice(&[-1i64, -1]).unsqueeze(1);
        assert_eq!(loss(&own, &logits, &unknown, &weights.unsqueeze(0)).double_value(&[]), 0.0);
    }
}
