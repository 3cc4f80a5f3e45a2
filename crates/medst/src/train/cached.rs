//! Large contrastive batches on little memory: the gradient of a whole batch, with the encoders' tape of a few studies at a time (after Gao
//! et al., *Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup*, 2021).
//!
//! 1. The encoders run over the batch in chunks without a tape; only their states are kept.
//! 2. Projections and losses run over all studies at once, with a tape that begins at those states.
//! 3. The encoders run over each chunk again, with a tape, which is given the states' gradients.
//!
//! The cut lies between encoders and projections, not behind the projections, because the projections normalise over the batch: there a study
//! depends on all others, and chunks would have statistics of their own. So the batch statistics are those of the whole batch,
//! the running ones move once, and the gradient is that of the batch in one piece. The price is the encoders' forward pass a second time.
//! Dropout of a chunk is drawn from a generator seeded for it, so that both passes of a chunk agree.

use tch::Tensor;

use super::optimizer::AdamW;
use crate::Result;
use crate::loss::config::LossConfig;
use crate::loss::{self, Losses};
use crate::model::input::Batch;
use crate::model::vit::ImageFeatures;
use crate::model::{MedSt, Mode};

/// Encoder states of some studies: `[B, H]` and `[B, P, H]` of frontal views, `[L, P, H]` of lateral ones, `[B, N, H]` of tokens.
struct States {
    parts: [Tensor; 4],
    lateral_rows: Vec<i64>,
}

impl States {
    fn of(model: &MedSt, batch: &Batch, start: i64, count: i64, seed: i64) -> Result<States> {
        tch::manual_seed(seed);
        let images = model.encode_images(&batch.images.part(start, count))?;
        let tokens = model.encode_reports(&batch.reports.part(start, count), Mode::Train)?;
        let ImageFeatures { image, frontal_patches, lateral_patches, lateral_rows } = images;
        let lateral_rows = lateral_rows.into_iter().map(|row| row + start).collect();
        Ok(States { parts: [image, frontal_patches, lateral_patches, tokens], lateral_rows })
    }

    /// Those of all chunks, as leaves of a new tape.
    fn join(chunks: &[States]) -> States {
        let leaf = |part: usize| {
            let parts: Vec<&Tensor> = chunks.iter().map(|chunk| &chunk.parts[part]).collect();
            Tensor::cat(&parts, 0).set_requires_grad(true)
        };
        let lateral_rows = chunks.iter().flat_map(|chunk| chunk.lateral_rows.iter().copied()).collect();
        States { parts: [0, 1, 2, 3].map(leaf), lateral_rows }
    }
}

/// Losses of a batch and the gradient of `share` of their total, in the parameters' order.
///
/// * `chunk`: studies whose tape exists at once; `seed`: of dropout.
///
/// # Errors
/// When the batch does not fit the model.
pub fn differentiate(
    model: &MedSt,
    optimizer: &AdamW,
    batch: &Batch,
    config: &LossConfig,
    (chunk, share, seed): (i64, f64, i64),
) -> Result<(Losses, Vec<Tensor>)> {
    let studies = batch.images.studies();
    let starts: Vec<i64> = (0..studies).step_by(chunk as usize).collect();
    let count = |start: i64| chunk.min(studies - start);
    let of = |start: i64| States::of(model, batch, start, count(start), seed.wrapping_add(start));

    let chunks = tch::no_grad(|| starts.iter().map(|&start| of(start)).collect::<Result<Vec<States>>>())?;
    let states = States::join(&chunks);
    drop(chunks);

    let [image, frontal_patches, lateral_patches, tokens] = states.parts.each_ref().map(Tensor::shallow_clone);
    let features = ImageFeatures { image, frontal_patches, lateral_patches, lateral_rows: states.lateral_rows.clone() };
    let images = model.project_images(features, Mode::Train)?;
    let reports = model.project_reports(&tokens, &batch.reports, Mode::Train)?;
    let losses = loss::of_embeddings(model, &images, &reports, &batch.relations, config);
    drop((images, reports));
    let (mut gradients, of_states) = optimizer.gradients_with(&(&losses.total * share), &states.parts);

    let mut lateral = 0;
    for &start in &starts {
        let own = of(start)?;
        let laterals = own.parts[2].size()[0];
        let places = [(start, count(start)), (start, count(start)), (lateral, laterals), (start, count(start))];
        lateral += laterals;
        let products = own.parts.iter().zip(&of_states).zip(places).map(|((state, gradient), (first, length))| {
            (state * gradient.narrow(0, first, length)).sum(None::<tch::Kind>)
        });
        let pulled = products.reduce(|a, b| a + b).expect("four kinds of states");
        let more = optimizer.gradients(&pulled);
        gradients.iter_mut().zip(&more).for_each(|(sum, gradient)| drop(sum.g_add_(gradient)));
    }
    Ok((losses, gradients))
}
