//! Pre-training (paper, section 4.1): one visible loop.
//!
//! * [`sampler`], [`dataset`], [`sentences`], `truth`, [`loader`] – sequences of a corpus to
//!   batches
//! * [`optimizer`], [`schedule`] – AdamW, learning rate
//! * [`gradients`], [`loss_scale`] – what backward passes give, within the range of the layers'
//!   precision
//! * [`average`] – a moving average of the weights
//! * [`lanes`] – the encoders of a small model on a thread per core
//! * [`grad_cache`], `activation_checkpointing` – the gradient of a large batch, a few studies or
//!   one block at a time
//! * [`validate`] – losses and retrieval of the validation split
//! * `periodic_evaluation` – evaluation tasks while a model trains
//! * `run`, `pretraining`: what every run has; what pre-training adds: open, step, validate, save,
//!   close
//! * `folder`: the run's folder, which one process at a time writes
//! * `checkpoint`, [`log`], `tensorboard` – what a run leaves
//! * `summary` – the summary printed at the end
//!
//! Everything random is a function of the seed and of where the run is, so a resumed run gives the
//! numbers of an uninterrupted one.

pub(crate) mod activation_checkpointing;
pub mod average;
pub(crate) mod checkpoint;
pub mod dataset;
pub(crate) mod folder;
pub mod grad_cache;
pub mod gradients;
pub mod lanes;
pub mod loader;
pub mod log;
pub mod loss_scale;
pub(crate) mod mlflow;
pub mod optimizer;
pub(crate) mod periodic_evaluation;
mod pretraining;
pub mod reduce;
pub(crate) mod run;
pub mod sampler;
pub mod schedule;
pub mod sentences;
pub mod statements;
pub(crate) mod summary;
pub(crate) mod tensorboard;
pub(crate) mod truth;
pub mod validate;

use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::progress::{Progress, Quiet};
use tch::Device;

use self::folder::RunFolder;
pub use self::log::Ending;
use self::pretraining::{Beginning, Data, Pretraining, vocabulary};
use self::run::check_alike;
pub use self::summary::RunSummary;
use crate::Result;
use crate::config::Config;
use crate::distributed::Group;

/// The resolved configuration in a run's folder.
pub const CONFIG: &str = "config.toml";

/// Pre-trains as configured; several processes share the batches out
/// ([`distributed`](crate::distributed)), and the numbers are those of one process, up to rounding.
/// Process 0 reads and writes the run's folder, prints messages, and returns the summary.
///
/// * `resume`: continue the run that is in the configured folder.
///
/// A stop request to any process (see [`Progress`]) leaves a checkpoint and ends with
/// [`Ending::Stopped`].
///
/// # Errors
/// An unusable configuration or corpus, a folder that cannot be written or that another process
/// writes, damaged files of a run that is resumed, a loss that is not finite. They are returned by
/// the process that they happen to, which then has to end the others.
pub fn pretrain(
    config: &Config,
    resume: bool,
    device: Device,
    group: &Group,
    progress: &dyn Progress,
) -> Result<Option<RunSummary>> {
    let quiet = Quiet(progress);
    let progress: &dyn Progress = if group.leads() { progress } else { &quiet };
    let folder = if group.leads() { Some(RunFolder::take(&config.train.output, CONFIG, resume)?) } else { None };
    let corpus = Corpus::open(&config.data.corpus)?;
    let pieces = vocabulary(config)?;
    check_alike(&config.to_toml()?, resume, &corpus, group)?;
    let beginning = Beginning::read(config, resume, group)?;
    let model = beginning.model(config, &pieces, group)?;
    let data = Data::read(config, &model, &corpus, &pieces)?;
    let mut run = Pretraining::open(&data, beginning, folder, resume, device, group, progress)?;

    let mut ending = None;
    while ending.is_none() && !run.is_finished() {
        ending = std::thread::scope(|scope| -> Result<Option<Ending>> {
            let mut batches = run.batches(scope);
            loop {
                // The wait for the loader counts: studies/s is what a user gets.
                let start = Instant::now();
                let Some(batch) = batches.next().filter(|_| !run.is_finished()) else { return Ok(None) };
                run.step(&batch?, start)?;
                if run.validation_is_due() && run.validate_and_save()? {
                    return Ok(Some(Ending::Converged));
                }
                if run.stop_requested() {
                    return Ok(Some(Ending::Stopped));
                }
            }
        })?;
        if ending.is_none() && run.end_epoch()? {
            ending = Some(Ending::Converged);
        }
    }
    run.close(ending.unwrap_or(Ending::Finished))
}
