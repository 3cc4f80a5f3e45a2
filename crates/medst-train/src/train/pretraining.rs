//! A run of pre-training: what a step computes, how the validation split judges the model, and what
//! is left at the end.

use std::thread::Scope;
use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::json;
use medst_data::progress::Progress;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use tch::Device;

use super::checkpoint::Checkpoints;
use super::dataset::{Crop, Dataset};
use super::folder::{self, RunFolder};
use super::grad_cache::{self, ActivationBudget};
use super::gradients::{Differentiated, Gradients};
use super::lanes;
use super::loader::{self, Loader};
use super::log::{Ending, Entry, Parts};
use super::mlflow;
use super::optimizer::AdamW;
use super::periodic_evaluation::PeriodicEvaluation;
use super::run::{Opening, TrainingRun, Update, check_files};
use super::sampler::{self, Purpose};
use super::schedule::{self, Schedule};
use super::summary::{self, RunSummary};
use super::validate::{self, Validation};
use crate::config::Config;
use crate::convert::Start;
use crate::distributed::share::Share;
use crate::distributed::{Group, broadcast_bytes};
use crate::loss;
use crate::model::card::{ModelCard, Origin, TrainingData};
use crate::model::config::{ModelConfig, Positions};
use crate::model::input::Batch;
use crate::model::{MedSt, Mode};
use crate::{Error, Result};

/// A run prints a line about every hundredth of its steps, and at least about one step in a
/// hundred.
const LINES: u64 = 100;

/// What a run begins with.
pub(super) enum Beginning {
    /// The card of the last checkpoint.
    Checkpoint(Box<ModelCard>),
    /// The weights that the configuration asks for.
    Weights(Start),
    /// What process 0 sends.
    Received,
}

/// What a run reads.
pub(super) struct Data<'a> {
    config: &'a Config,
    model: &'a ModelConfig,
    corpus: &'a Corpus,
    pieces: &'a WordPiece,
    training: Dataset<'a>,
    validation: Dataset<'a>,
}

/// This process's share of a batch.
pub(super) struct BatchShare {
    batch: Batch,
    share: Share,
}

/// A run in progress.
pub(super) struct Pretraining<'a> {
    data: &'a Data<'a>,
    run: TrainingRun<'a>,
    /// On process 0, where the configuration asks for it.
    evaluation: Option<PeriodicEvaluation>,
}

impl Beginning {
    /// Reads the last checkpoint's card or the weights to start from, on process 0.
    ///
    /// # Errors
    /// A configuration other than that of the run that is resumed, a damaged card, weights that are
    /// unreadable.
    pub fn read(config: &Config, resume: bool, group: &Group) -> Result<Beginning> {
        if !group.leads() {
            return Ok(Beginning::Received);
        }
        if resume {
            folder::check_configuration(config)?;
            if let Some(card) = Checkpoints::new(&config.train.output).card()? {
                return Ok(Beginning::Checkpoint(Box::new(card)));
            }
        }
        Ok(Beginning::Weights(Start::read(&config.init.weights)?))
    }

    /// What the run's model is: as configured, with what its vocabulary and the weights that it
    /// starts from decide, or as its last checkpoint states. The same on all processes.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn model(&self, config: &Config, pieces: &WordPiece, group: &Group) -> Result<ModelConfig> {
        let mut model = config.model.clone();
        model.text.vocabulary = pieces.size() as i64;
        match self {
            Beginning::Checkpoint(card) => model = card.model.clone(),
            Beginning::Weights(start) => start.decide(&mut model),
            Beginning::Received => {}
        }
        model.validate()?;
        if group.size() == 1 {
            return Ok(model);
        }
        let given = broadcast_bytes(group, json::text(&model).as_bytes());
        serde_json::from_slice(&given)
            .map_err(|error| Error::Distributed(format!("the model of process 0 is not readable: {error}")))
    }
}

impl<'a> Data<'a> {
    /// * `model`: what the run's model is ([`Beginning::model`]).
    pub fn read(
        config: &'a Config,
        model: &'a ModelConfig,
        corpus: &'a Corpus,
        pieces: &'a WordPiece,
    ) -> Result<Data<'a>> {
        let dataset = |split| Dataset::new(corpus, pieces, split, model, &config.data);
        let (training, validation) = (dataset(Split::Train)?, dataset(Split::Validate)?);
        Ok(Data { config, model, corpus, pieces, training, validation })
    }

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        let train = &self.config.train;
        sampler::batches(&self.training.sequences, train.sequences_per_batch, train.seed, epoch)
    }

    /// The learning rate, and how many steps there are.
    fn schedule(&self) -> Result<Schedule> {
        let Config { data, train, optimizer, .. } = self.config;
        let steps_per_epoch = match self.batches(0).len() {
            0 => {
                return Err(Error::Training(format!(
                    "{} holds {} training studies with a report; pre-training needs at least two in a batch",
                    data.corpus.display(),
                    self.training.studies()
                )));
            }
            batches => batches as u64,
        };
        let total = (train.epochs * steps_per_epoch).min(train.max_steps.unwrap_or(u64::MAX));
        let warmup = (total as f64 * optimizer.warmup_fraction) as u64;
        Ok(Schedule { max: optimizer.lr, min: schedule::LEAST.min(optimizer.lr), warmup, total })
    }
}

impl<'a> Pretraining<'a> {
    /// Restores the run, or initialises a new one.
    pub fn open(
        data: &'a Data<'a>,
        beginning: Beginning,
        folder: Option<RunFolder>,
        resume: bool,
        device: Device,
        group: &'a Group,
        progress: &'a dyn Progress,
    ) -> Result<Pretraining<'a>> {
        let Data { config, model: sizes, corpus, pieces, .. } = *data;
        let (configuration, train) = (config.to_toml()?, &config.train);
        if resume {
            check_files(corpus, group, progress)?;
        }
        let schedule = data.schedule()?;
        let evaluation = if group.leads() { PeriodicEvaluation::open(config)? } else { None };
        let store = if group.leads() { mlflow::store()? } else { None };
        let kind = train.precision.kind();
        let (model, origin) = match beginning {
            Beginning::Checkpoint(card) => (MedSt::unwritten(sizes, device, kind)?, card.origin),
            Beginning::Weights(start) => {
                let mut model = MedSt::new(sizes, train.seed, device, kind)?;
                let origin = initialise(&mut model, start, config, progress)?;
                (model, origin)
            }
            Beginning::Received => (MedSt::unwritten(sizes, device, kind)?, Vec::new()),
        };
        let opening = Opening {
            group,
            progress,
            folder,
            output: &train.output,
            store,
            configuration,
            resume,
            optimizer: AdamW::new(&model, &config.optimizer),
            model,
            kind,
            schedule,
            clip_norm: config.optimizer.clip_norm,
            average: train.average,
            card: ModelCard {
                stored_size: Some(corpus.image_size()),
                training: Some(TrainingData::from_corpus(corpus)),
                origin,
                ..ModelCard::new(sizes, pieces, 0, corpus.fingerprint())
            },
            vocabulary: config.data.vocabulary.clone(),
            patience: train.patience,
        };
        let mut run = TrainingRun::open::<Entry>(opening)?;
        // Batch statistics are those of all processes from now on.
        if group.size() > 1 {
            run.model.synchronise(group);
        }
        let run = Pretraining { data, run, evaluation };
        run.announce();
        Ok(run)
    }

    /// What is trained on, and from where.
    fn announce(&self) {
        let (Data { training, validation, .. }, progress) = (self.data, self.run.progress);
        let describe = |set: &Dataset| format!("{} studies in {} sequences", set.studies(), set.sequences.len());
        progress.note(&format!("training on {}, validating on {}", describe(training), describe(validation)));
        if training.without_report + validation.without_report > 0 {
            progress.note(&format!(
                "{} studies have no report and are left out",
                training.without_report + validation.without_report
            ));
        }
        if self.run.group.size() > 1 {
            progress.note(&format!("{} processes share each batch", self.run.group.size()));
        }
        progress.begin("pre-training", Some(self.run.schedule.total));
        progress.advance(self.run.state.step);
    }

    pub fn is_finished(&self) -> bool {
        self.run.is_finished()
    }

    pub fn stop_requested(&self) -> bool {
        self.run.stop_requested()
    }

    /// This process's shares of the batches that are left of the epoch, read ahead by threads.
    pub fn batches<'scope, 'env>(
        &self,
        scope: &'scope Scope<'scope, 'env>,
    ) -> impl Iterator<Item = Result<BatchShare>> + use<'a, 'scope, 'env>
    where
        'a: 'env,
    {
        let Data { config, training, .. } = self.data;
        let state = &self.run.state;
        let mut batches = self.data.batches(state.epoch);
        let batches = batches.split_off(state.position.min(batches.len()));
        let shares: Vec<Share> =
            batches.iter().map(|numbers| Share::new(&training.lengths(numbers), self.run.group)).collect();
        let jobs = shares.iter().map(|share| share.sequences.clone()).zip(batches).collect();
        let crop = Crop::Random { seed: config.train.seed, epoch: state.epoch };
        let loader = Loader::of_shares(scope, training, jobs, crop, loader::THREADS, self.run.model.device());
        loader.zip(shares).map(|(batch, share)| Ok(BatchShare { batch: batch?, share }))
    }

    /// Makes an optimiser step of a batch.
    ///
    /// * `start`: when reading it began.
    pub fn step(&mut self, batch: &BatchShare, start: Instant) -> Result<()> {
        let config = self.data.config;
        let Update { losses, rate, norm } =
            self.run.update(|model, step, factor| differentiate(model, batch, config, step, factor))?;
        let studies = batch.share.studies();
        let entry = Entry::Train {
            step: self.run.state.step,
            epoch: self.run.state.epoch,
            lr: rate,
            losses,
            grad_norm: norm,
            studies: studies as u64,
            studies_per_second: studies as f64 / start.elapsed().as_secs_f64(),
        };
        self.run.record(&entry)?;
        self.run.progress.status(&summary::brief(&entry));
        self.run.progress.advance(1);
        let line_every = (self.run.schedule.total / LINES).clamp(1, LINES);
        if self.run.state.step.is_multiple_of(line_every) {
            self.run.progress.note(&summary::line(&entry));
        }
        Ok(())
    }

    /// Whether the interval of validation ends here.
    pub fn validation_is_due(&self) -> bool {
        let every = self.data.config.train.validate_every;
        every > 0 && self.run.state.step.is_multiple_of(every)
    }

    /// Ends an epoch; without an interval of validation it is validated.
    ///
    /// Returns whether the run has converged.
    pub fn end_epoch(&mut self) -> Result<bool> {
        self.run.end_epoch();
        if self.data.config.train.validate_every == 0 { self.validate_and_save() } else { Ok(false) }
    }

    /// Validates and writes a checkpoint, where there is something to validate on.
    ///
    /// Returns whether the run has converged.
    pub fn validate_and_save(&mut self) -> Result<bool> {
        if !self.validate()? {
            return Ok(false);
        }
        self.run.save()?;
        Ok(self.run.has_converged())
    }

    /// Validates and evaluates; false where there is nothing to validate on.
    fn validate(&mut self) -> Result<bool> {
        let validated = self.losses()?;
        self.run.state.validated = self.run.state.step;
        self.evaluate()?;
        Ok(validated)
    }

    /// Losses of the validation split; false where it has no study.
    fn losses(&mut self) -> Result<bool> {
        let Data { config, validation, .. } = self.data;
        let (model, size) = (self.run.judged(), config.train.sequences_per_batch);
        let found = validate::validate(model, validation, &config.loss, size, self.run.group)?;
        let Some(Validation { losses, retrieval }) = found else { return Ok(false) };
        let (step, epoch) = (self.run.state.step, self.run.state.epoch);
        if !losses.total.is_finite() {
            // The update before it broke the weights. They are not written to a checkpoint; earlier
            // checkpoints are kept.
            return Err(Error::Training(format!(
                "the validation loss after step {step} is not finite: {}; a lower optimizer.lr or optimizer.clip_norm \
                 may help",
                losses.listed()
            )));
        }
        let entry = Entry::Validate { step, epoch, losses, retrieval };
        self.run.record(&entry)?;
        self.run.progress.note(&summary::line(&entry));
        self.run.judge(losses.total);
        Ok(true)
    }

    /// Runs the evaluation tasks that the configuration asks for.
    fn evaluate(&mut self) -> Result<()> {
        let Some(evaluation) = &self.evaluation else { return Ok(()) };
        let entries = evaluation.run(self.run.judged(), self.data.pieces, &self.run.state, self.run.progress)?;
        entries.iter().try_for_each(|entry| self.run.record(entry))
    }

    /// Writes the last checkpoint; process 0 returns the summary.
    pub fn close(mut self, ending: Ending) -> Result<Option<RunSummary>> {
        if ending == Ending::Finished && self.run.state.validated != self.run.state.step {
            // The interval of validation need not divide the run: its final weights are judged all
            // the same.
            self.validate()?;
        }
        self.run.close(ending)?;
        let group = self.run.group;
        let traffic = (group.size() > 1).then(|| group.traffic());
        if let Some(traffic) = traffic {
            self.run.progress.note(&format!("passed between processes: {traffic}"));
        }
        if !group.leads() {
            return Ok(None);
        }
        let summary = RunSummary::read(&self.data.config.train.output, ending, self.run.schedule.total)?;
        Ok(Some(RunSummary { traffic, ..summary }))
    }
}

/// The tokenizer that a configuration asks for.
pub(super) fn vocabulary(config: &Config) -> Result<WordPiece> {
    Ok(match &config.data.vocabulary {
        Some(path) => WordPiece::from_file(path)?,
        None => WordPiece::bert_cased(),
    })
}

/// Losses and gradients of one optimiser step; the gradients are `factor` times as large.
fn differentiate(
    model: &MedSt,
    BatchShare { batch, share }: &BatchShare,
    config: &Config,
    step: u64,
    factor: f64,
) -> Result<Differentiated<Parts>> {
    // Dropout depends on the step alone, not on what ran before.
    let seed = rand::Rng::random(&mut sampler::random(config.train.seed, [step, 0], Purpose::Dropout));
    let mut batch = batch.to_device(model.device());
    batch.reports.draw(seed, share.first());
    let studies = batch.images.studies();
    let Differentiated { losses, gradients } = match budget(config, studies) {
        budget if share.group.size() > 1 => {
            let budget = budget.unwrap_or(ActivationBudget { studies: studies.max(1), by_block: false });
            grad_cache::differentiate(model, &batch, &config.loss, budget, factor, Some(share))?
        }
        Some(budget) => grad_cache::differentiate(model, &batch, &config.loss, budget, factor, None)?,
        None if let Some(lanes) = lanes::lanes(model, studies) => {
            lanes::differentiate(model, &batch, &config.loss, lanes, factor)?
        }
        None => {
            let losses = loss::med_st(model, &batch, &config.loss, Mode::Train)?;
            let gradients = Gradients::compute(model, &(&losses.total * factor));
            Differentiated { losses, gradients }
        }
    };
    let losses = Parts::from_losses(&losses);
    if !losses.total.is_finite() {
        return Err(Error::Training(format!("the loss of step {} is not finite: {}", step + 1, losses.listed())));
    }
    Ok(Differentiated { losses, gradients })
}

/// How a batch of so many studies is to save memory; `None` where its tape is kept whole.
fn budget(config: &Config, studies: i64) -> Option<ActivationBudget> {
    let (chunk, by_block) = (config.train.encode_studies as i64, config.train.checkpoint_activations);
    let chunked = chunk > 0 && chunk < studies;
    (chunked || by_block).then_some(ActivationBudget { studies: if chunked { chunk } else { studies }, by_block })
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
