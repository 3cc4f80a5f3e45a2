//! A run of fine-tuning: what it starts from, its batches and steps, how the validation split
//! judges it, and what is left at the end.

use std::thread::Scope;
use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::progress::Progress;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use tch::{Device, Tensor};

use super::data::{self, Items, Labels};
use super::judge::{self, Entry, Judged, Summary};
use super::mixup::Mixing;
use super::step::{BatchShare, Objective, Trained, trained};
use super::{CONFIG, Config};
use crate::convert::transformers::write_vocabulary;
use crate::convert::{self, Headed};
use crate::distributed::share::Share;
use crate::distributed::{self, Group};
use crate::model::MedSt;
use crate::model::card::{CARD, ModelCard, TrainingData, VOCABULARY};
use crate::model::config::ModelConfig;
use crate::model::group::Group as Layers;
use crate::model::head::HeadConfig;
use crate::open::{open_model_in, read_card};
use crate::stats::bootstrap::Bootstrap;
use crate::train::checkpoint::Checkpoints;
use crate::train::dataset::Crop;
use crate::train::folder::{RunFolder, check_same};
use crate::train::loader::{self, Loader};
use crate::train::mlflow;
use crate::train::optimizer::AdamW;
use crate::train::run::{Opening, TrainingRun, Update, check_alike, check_files};
use crate::train::schedule::Schedule;
use crate::train::{Ending, sampler};
use crate::{Error, Result};

/// What a run reads.
pub(super) struct Data<'a> {
    config: &'a Config,
    corpus: &'a Corpus,
    labels: Labels<'a>,
    training: Items<'a>,
    validation: Items<'a>,
}

/// A run in progress.
pub(super) struct FineTuning<'a> {
    data: &'a Data<'a>,
    run: TrainingRun<'a>,
    objective: Objective,
}

impl<'a> Data<'a> {
    pub fn read(config: &'a Config, corpus: &'a Corpus, progress: &dyn Progress) -> Result<Data<'a>> {
        let labels = Labels::read(corpus, &config.data, progress)?;
        let training = labels.items(Split::Train, config.data.share, config.train.seed);
        let validation = labels.items(Split::Validate, 1.0, config.train.seed);
        Ok(Data { config, corpus, labels, training, validation })
    }

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        sampler::batches(&self.training.rows, self.config.train.batch, self.config.train.seed, epoch)
    }

    /// Refuses labels that cannot be learnt, and notes those that some of the items have one class
    /// of.
    fn check_classes(&self, progress: &dyn Progress) -> Result<()> {
        let varied = self.training.varied();
        if self.batches(0).is_empty() || !varied.contains(&true) {
            return Err(Error::Training(format!(
                "{} labelled training items (data.share = {}) have only one class of each label; there is nothing \
                 to learn",
                self.training.len(),
                self.config.data.share
            )));
        }
        for (label, _) in self.labels.head.labels.iter().zip(&varied).filter(|(_, varied)| !**varied) {
            progress.note(&format!("{label}: the labels that are used have only one class"));
        }
        Ok(())
    }

    fn schedule(&self) -> Schedule {
        let adamw = self.config.optimizer.adamw();
        let total = self.config.train.epochs * self.batches(0).len() as u64;
        let warmup = (total as f64 * adamw.warmup_fraction) as u64;
        Schedule { max: adamw.lr, min: 0.0, warmup, total }
    }

    /// The model of a run that has a checkpoint, or the one to start from.
    fn start(&self, begun: bool, device: Device, progress: &dyn Progress) -> Result<Start> {
        let (train, head) = (&self.config.train, &self.labels.head);
        let start = match begun {
            true => {
                let model = MedSt::unwritten(&begun_model(self.config, head)?, device, train.precision.kind())?;
                Start { model, card: read_card(&train.output)?.1, pieces: None }
            }
            false => converted(self.config, head, device, progress)?,
        };
        let (side, stored) = (start.model.config.image.size, self.corpus.image_size());
        if side > stored as i64 {
            return Err(Error::Config(format!(
                "the model reads images of {side} pixels, but the corpus {} has only {stored}; prepare it with \
                 --image-size {side} or more",
                self.config.data.corpus.display()
            )));
        }
        Ok(start)
    }
}

impl<'a> FineTuning<'a> {
    /// Restores the run, or begins a new one.
    pub fn open(
        data: &'a Data<'a>,
        folder: Option<RunFolder>,
        resume: bool,
        device: Device,
        group: &'a Group,
        progress: &'a dyn Progress,
    ) -> Result<FineTuning<'a>> {
        let (config, train, corpus) = (data.config, &data.config.train, data.corpus);
        let (configuration, output) = (config.to_toml()?, &train.output);
        check_alike(&configuration, resume, corpus, group)?;
        let store = if group.leads() { mlflow::store()? } else { None };
        let begun = resume && Checkpoints::new(output).begun();
        if resume {
            let path = output.join(CONFIG);
            check_same(&path, &Config::load(&path, &[])?.to_toml()?, &configuration)?;
            check_files(corpus, group, progress)?;
        }
        let Start { model, card, pieces } = data.start(begun, device, progress)?;
        data.check_classes(progress)?;
        let Trained { parameters, factors } = trained(&model, config, &data.training)?;
        let classes = data.labels.head.classes.len().max(2);
        let weights = data::weights(&data.training.classes, classes, train.class_weights);
        let objective =
            Objective { parameters: parameters.clone(), weights: Tensor::from_slice2(&weights).to_device(device) };
        let adamw = config.optimizer.adamw();
        let opening = Opening {
            group,
            progress,
            folder,
            output,
            store,
            configuration,
            resume,
            optimizer: AdamW::for_parameters(parameters, factors, &adamw),
            model,
            kind: train.precision.kind(),
            schedule: data.schedule(),
            clip_norm: adamw.clip_norm,
            average: train.average,
            card: ModelCard {
                corpus: corpus.fingerprint(),
                stored_size: Some(corpus.image_size()),
                training: Some(TrainingData::from_corpus(corpus)),
                ..card
            },
            vocabulary: None,
            patience: train.patience,
        };
        let mut run = TrainingRun::open::<Entry>(opening)?;
        let vocabulary = output.join(VOCABULARY);
        if let Some(pieces) = pieces.filter(|_| group.leads()) {
            write_vocabulary(&vocabulary, &pieces)?;
        }
        run.vocabulary = vocabulary.exists().then_some(vocabulary);
        let (items, validation) = (data.training.len(), data.validation.len());
        progress.note(&format!("training on {items} items, validating on {validation}"));
        progress.begin("fine-tuning", Some(run.schedule.total));
        progress.advance(run.state.step);
        Ok(FineTuning { data, run, objective })
    }

    pub fn is_finished(&self) -> bool {
        self.run.is_finished()
    }

    pub fn stop_requested(&self) -> bool {
        self.run.stop_requested()
    }

    /// This process's shares of the batches that are left of the epoch, read ahead by threads.
    pub fn batches<'scope, 'env>(&self, scope: &'scope Scope<'scope, 'env>) -> Loader<BatchShare>
    where
        'a: 'env,
    {
        let training = &self.data.training;
        let (state, group) = (&self.run.state, self.run.group);
        let crop = Crop::Random { seed: self.data.config.train.seed, epoch: state.epoch };
        let batches = self.data.batches(state.epoch).split_off(state.position);
        let job = |(place, numbers): (usize, Vec<usize>)| {
            (place as u64, Share::new(&vec![1; numbers.len()], group).sequences, numbers)
        };
        let jobs: Vec<_> = (state.position..).zip(batches).map(job).collect();
        let (seed, alpha, epoch) = (self.data.config.train.seed, self.data.config.train.mixup, state.epoch);
        let side = self.run.model.config.image.size;
        Loader::spawn(scope, jobs, loader::THREADS, move |(place, share, numbers)| {
            let mut batch = training.batch(&numbers, share.clone(), crop, side)?;
            if let Some(mixing) = Mixing::draw(alpha, &numbers, seed, [epoch, place]) {
                batch = mixing.mix(batch, training.batch(&mixing.others, share, crop, side)?);
            }
            Ok(BatchShare { batch, known: training.known(&numbers), studies: numbers.len() * training.rows[0].len() })
        })
    }

    /// Makes an optimiser step of a batch.
    ///
    /// * `start`: when reading it began.
    pub fn step(&mut self, share: &BatchShare, start: Instant) -> Result<()> {
        let (objective, group) = (&self.objective, self.run.group);
        let update = self.run.update(|model, _, factor| objective.differentiate(model, share, factor, group))?;
        let Update { losses: loss, rate, norm } = update;
        let (step, epoch) = (self.run.state.step, self.run.state.epoch);
        if !loss.is_finite() {
            return Err(Error::Training(format!(
                "the loss of step {step} is not finite; a lower optimizer.lr may help"
            )));
        }
        let studies_per_second = share.studies as f64 / start.elapsed().as_secs_f64();
        let studies = share.studies as u64;
        let entry = Entry::Train { step, epoch, lr: rate, loss, grad_norm: norm, studies, studies_per_second };
        self.run.record(&entry)?;
        self.run.progress.status(&format!("loss {loss:.4}"));
        self.run.progress.advance(1);
        Ok(())
    }

    /// Ends an epoch; where the validation split has labels, validates and writes a checkpoint.
    ///
    /// Returns whether the run has converged.
    pub fn end_epoch(&mut self) -> Result<bool> {
        self.run.end_epoch();
        let Data { config, labels, validation, .. } = self.data;
        let judged = Judged::new(self.run.judged(), validation, config.train.batch, self.run.group)?;
        let Some(figure) = judged.figure(&labels.head) else { return Ok(false) };
        let (step, epoch) = (self.run.state.step, self.run.state.epoch);
        self.run.record(&judged.entry(&labels.head, figure, step, epoch))?;
        self.run.progress.note(&format!("step {step}  {}: {figure:.4}", judge::name(labels.head.task)));
        // Lower is better, as in pre-training.
        self.run.judge(1.0 - figure);
        self.run.save()?;
        Ok(self.run.has_converged())
    }

    /// Writes the last checkpoint; process 0 judges the best one on the validation and the test
    /// split and returns the summary.
    pub fn close(mut self, ending: Ending) -> Result<Option<Summary>> {
        self.run.close(ending)?;
        if !self.run.group.leads() {
            return Ok(None);
        }
        let Data { config, labels, training, validation, .. } = self.data;
        let (train, alone) = (&config.train, distributed::alone());
        let best = open_model_in(&train.output, self.run.model.device(), train.precision)?;
        let figures = |items: &Items| {
            let judged = Judged::new(&best.model, items, train.batch, &alone)?;
            Ok::<_, Error>(judged.figures(&labels.head, items, Bootstrap::default()))
        };
        let test = labels.items(Split::Test, 1.0, train.seed);
        Ok(Some(Summary {
            folder: train.output.clone(),
            ending,
            steps: self.run.state.step,
            total_steps: self.run.schedule.total,
            used: best.card.step,
            trained_on: training.len(),
            validation: figures(validation)?,
            test: figures(&test)?,
            head: labels.head.clone(),
        }))
    }
}

/// The model that a run starts or goes on with.
struct Start {
    model: MedSt,
    card: ModelCard,
    /// The vocabulary that is to be written, where it is not the built-in one.
    pieces: Option<WordPiece>,
}

/// The configured model, with a new head.
fn converted(config: &Config, head: &HeadConfig, device: Device, progress: &dyn Progress) -> Result<Start> {
    let (inputs, kind) = (&config.init.weights, config.train.precision.kind());
    let Headed { model, card, pieces, filled } =
        convert::with_head(inputs, head.clone(), config.train.seed, device, kind)?;
    let names: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    if !filled.has(Layers::ImageEncoder) {
        return Err(Error::Config(format!("init.weights = {}: it has no image encoder", names.join(", "))));
    }
    progress.note(&format!("started from {}: {}", names.join(", "), filled.brief()));
    let pieces = Some(pieces).filter(|pieces| pieces.checksum() != WordPiece::bert_cased().checksum());
    Ok(Start { model, card, pieces })
}

/// The model of a run that has begun.
///
/// # Errors
/// A head for other labels or classes than the corpus and the configuration ask for now.
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
