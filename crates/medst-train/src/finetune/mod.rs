//! Fine-tuning: an image encoder and a linear head on it, trained for one task with labels (not
//! part of the paper).
//!
//! | file | what |
//! |---|---|
//! | `config` | the configuration |
//! | `data` | label columns of a corpus to targets |
//! | `tuning` | a run: open, step, validate, save, close |
//! | `step` | what a step computes |
//! | `mixup` | batches whose items are mixed with each other |
//! | `judge` | figures of a head on a split; the summary of a run |
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
//! With `mixup` the loss is that of two items in their shares.
//!
//! Sampling, loading, optimiser, loss scale, average, checkpoints and logs are those of
//! [`crate::train`]. A run of several processes computes the steps of one: each takes its share of
//! a batch, and the gradients are summed.
//!
//! Letters: `B` items of a batch (studies, or pairs of studies), `L` labels, `C` classes.

pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod judge;
pub(crate) mod mixup;
mod step;
mod tuning;

use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::progress::{Progress, Quiet};
use tch::Device;

pub use self::config::Config;
use self::judge::Summary;
use self::tuning::{Data, FineTuning};
use crate::Result;
use crate::distributed::Group;
use crate::train::Ending;
use crate::train::folder::{self, RunFolder};

/// The resolved configuration in the folder of a fine-tuning run.
pub const CONFIG: &str = folder::FINE_TUNING;

/// Fine-tunes as configured; several processes share the batches out. Process 0 reads and writes
/// the run's folder, and returns the summary.
///
/// * `resume`: continue the run that is in the configured folder.
///
/// A stop request leaves a checkpoint and ends with [`Ending::Stopped`].
///
/// # Errors
/// An unusable configuration, corpus or model, labels that cannot be learnt, a folder that cannot
/// be written, a loss that is not finite.
pub fn finetune(
    config: &Config,
    resume: bool,
    device: Device,
    group: &Group,
    progress: &dyn Progress,
) -> Result<Option<Summary>> {
    let quiet = Quiet(progress);
    let progress: &dyn Progress = if group.leads() { progress } else { &quiet };
    let folder = if group.leads() { Some(RunFolder::take(&config.train.output, CONFIG, resume)?) } else { None };
    let corpus = Corpus::open(&config.data.corpus)?;
    let data = Data::read(config, &corpus, progress)?;
    let mut run = FineTuning::open(&data, folder, resume, device, group, progress)?;

    let mut ending = None;
    while ending.is_none() && !run.is_finished() {
        ending = std::thread::scope(|scope| -> Result<Option<Ending>> {
            let mut batches = run.batches(scope);
            loop {
                let start = Instant::now();
                let Some(batch) = batches.next().transpose()? else { return Ok(None) };
                run.step(&batch, start)?;
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
