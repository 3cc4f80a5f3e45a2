//! Large contrastive batches on little memory: the gradient of a whole batch, with the encoders'
//! tape of a few studies at a time (after Gao et al., *Scaling Deep Contrastive Learning Batch Size
//! under Memory Limited Setup*, 2021), or of one block at a time
//! (`activation_checkpointing`), or both.
//!
//! 1. The encoders run over the batch in chunks without a tape; only their states are kept.
//! 2. Projections and losses run over all studies at once, with a tape that begins at those states.
//! 3. The encoders run over each chunk again, with a tape, which is given the states' gradients.
//!
//! The cut is between encoders and projections, not after the projections, because the projections
//! normalise over the batch: after them a study depends on all others, and each chunk would have
//! separate statistics. With this cut, the batch statistics are those of the whole batch, the
//! running statistics are updated once, and the gradient is that of the undivided batch. The price
//! is a second forward pass of the encoders. Dropout is a function of the report, so that both
//! passes of a chunk agree.

use std::ops::Range;

use tch::Tensor;

use super::activation_checkpointing::Chain;
use super::gradients::{Differentiated, Gradients};
use crate::Result;
use crate::distributed::share::Share;
use crate::loss::config::LossConfig;
use crate::loss::{self, Losses};
use crate::model::input::{Batch, ImageInput, ReportInput};
use crate::model::parameters::at_least_float;
use crate::model::vit::ImageFeatures;
use crate::model::{MedSt, Mode};
use crate::train::reduce::{ParameterGroup, Reducer};

/// How much of the encoders' tape exists at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationBudget {
    /// Studies.
    pub studies: i64,
    /// One block at a time.
    pub by_block: bool,
}

/// Some studies of a batch.
pub(super) struct Chunk {
    pub studies: Range<i64>,
    images: ImageInput,
    reports: ReportInput,
}

impl Chunk {
    pub fn new(batch: &Batch, studies: Range<i64>) -> Chunk {
        let (start, count) = (studies.start, studies.end - studies.start);
        let (images, reports) = (batch.images.part(start, count), batch.reports.part(start, count));
        Chunk { studies, images, reports }
    }

    /// Both encoders.
    pub fn chains<'a>(&'a self, model: &'a MedSt) -> Result<[Chain<'a>; 2]> {
        let image = model.image_stages(&self.images)?;
        let report = model.report_stages(&self.reports, Mode::Train)?;
        Ok([image, report].map(|stages| Chain { stages }))
    }
}

/// `[CLS]`, frontal and lateral patches, tokens.
pub(super) fn both(mut images: Vec<Tensor>, mut reports: Vec<Tensor>) -> Vec<Tensor> {
    images.append(&mut reports);
    images
}

/// The states of all chunks, as leaves of a new tape.
pub(super) fn join(chunks: Vec<Vec<Tensor>>) -> Vec<Tensor> {
    let parts = chunks.first().map_or(0, Vec::len);
    let whole = |part: usize| match chunks.as_slice() {
        [only] => only[part].detach(),
        several => Tensor::cat(&several.iter().map(|chunk| &chunk[part]).collect::<Vec<_>>(), 0),
    };
    (0..parts).map(|part| whole(part).set_requires_grad(true)).collect()
}

/// The part that some studies have of the batch's states (or their gradients), in the order of
/// [`both`].
pub(super) fn of_studies(states: &[Tensor], studies: &Range<i64>, lateral_rows: &[i64]) -> Vec<Tensor> {
    let before = |row: i64| lateral_rows.partition_point(|&lateral| lateral < row) as i64;
    let laterals = before(studies.start)..before(studies.end);
    let rows = |part: usize| if part == 2 { &laterals } else { studies };
    states
        .iter()
        .enumerate()
        .map(|(part, state)| state.narrow(0, rows(part).start, rows(part).end - rows(part).start))
        .collect()
}

/// Losses of a batch and the gradient of `weight` times their total.
///
/// * `share`: what this process has of a batch that several processes share; losses and gradients
///   are those of the whole batch, the same on every process.
///
/// Here even a tape that fits into memory is kept stage by stage, so that gradients can be sent
/// while earlier stages are still being computed.
///
/// # Errors
/// When the batch does not fit the model.
pub fn differentiate(
    model: &MedSt,
    batch: &Batch,
    config: &LossConfig,
    budget: ActivationBudget,
    weight: f64,
    share: Option<&Share>,
) -> Result<Differentiated<Losses>> {
    let mut reducer = share.map(|share| Reducer::start(model, &share.group));
    let studies = batch.images.studies();
    let starts = (0..studies).step_by(budget.studies.max(1) as usize);
    let ranges = starts.map(|start| start..(start + budget.studies).min(studies));
    let chunks: Vec<Chunk> = ranges.map(|range| Chunk::new(batch, range)).collect();
    let alone = chunks.len() == 1;

    let (mut states, mut kept, mut tapes) = (Vec::new(), None, None);
    for chunk in &chunks {
        let [image, report] = chunk.chains(model)?;
        if alone && budget.by_block {
            let ((images, of_image), (reports, of_report)) = (image.run_keeping(), report.run_keeping());
            states.push(both(images, reports));
            kept = Some([of_image, of_report]);
        } else if alone {
            let ((images, of_image), (reports, of_report)) = (image.run_taping(), report.run_taping());
            states.push(both(images, reports));
            tapes = Some([of_image, of_report]);
        } else {
            states.push(tch::no_grad(|| both(image.run(), report.run())));
        }
    }
    if states.is_empty() {
        states.push(no_states(model));
    }
    let states = join(states);
    let lateral_rows = model.lateral_rows(&batch.images);

    let features =
        ImageFeatures::from_states(states[..3].iter().map(Tensor::shallow_clone).collect(), lateral_rows.clone());
    let images = model.project_images(features, Mode::Train)?;
    let reports = model.project_reports(&states[3], &batch.reports, Mode::Train)?;
    let losses = loss::of_share(model, &images, &reports, batch, config, share);
    drop((images, reports));
    let mut gradients = Gradients::none(model);
    let of_states = gradients.add(&(&losses.total * weight), &states);
    drop(states);
    let mut done = |part: ParameterGroup, gradients: &mut Gradients| {
        if let Some(reducer) = &mut reducer {
            reducer.ready(part, gradients);
        }
    };
    done(ParameterGroup::Heads, &mut gradients);

    for (number, chunk) in chunks.iter().enumerate() {
        // The gradients are final only after the last chunk.
        let last = number + 1 == chunks.len();
        let mut of_images = of_studies(&of_states, &chunk.studies, &lateral_rows);
        let of_reports = of_images.split_off(3);
        let [image, report] = chunk.chains(model)?;
        let mut image_done = |stage: usize, gradients: &mut Gradients| {
            if last {
                done(ParameterGroup::Image(stage), gradients);
            }
        };
        if let Some([of_image, of_report]) = tapes.take() {
            image.backward_by_tape(of_image, of_images, &mut gradients, &mut image_done);
            report.backward_by_tape(of_report, of_reports, &mut gradients, &mut |stage, gradients| {
                done(ParameterGroup::Report(stage), gradients);
            });
        } else if budget.by_block {
            let [of_image, of_report] = kept.take().unwrap_or_else(|| {
                // Those of the first pass were not kept: with several chunks they would be those of
                // the whole batch.
                [image.run_keeping().1, report.run_keeping().1]
            });
            image.backward_by_stage(of_image, of_images, &mut gradients, &mut image_done);
            report.backward_by_stage(of_report, of_reports, &mut gradients, &mut |stage, gradients| {
                if last {
                    done(ParameterGroup::Report(stage), gradients);
                }
            });
        } else {
            image.backward(&of_images, &mut gradients);
            image_done(0, &mut gradients);
            report.backward(&of_reports, &mut gradients);
        }
    }
    if let Some(reducer) = reducer {
        reducer.finish(&mut gradients);
    }
    Ok(Differentiated { losses, gradients: gradients.finish() })
}

/// The states of a process that has no study of a batch.
fn no_states(model: &MedSt) -> Vec<Tensor> {
    let (image, text) = (&model.config.image, &model.config.text);
    let zeros =
        |shape: &[i64]| Tensor::zeros(shape, (at_least_float(model.parameters()[0].tensor.kind()), model.device()));
    let patches = zeros(&[0, image.patches(), image.hidden_size]);
    vec![zeros(&[0, image.hidden_size]), patches.shallow_clone(), patches, zeros(&[0, 1, text.hidden_size])]
}
