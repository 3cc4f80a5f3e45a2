//! Modality-weighted local alignment (paper, section 3.3): each word finds its context among the patches, each patch among
//! the words, and important tokens count more.
//!
//! For queries `q` and keys `k` of one study: `context_i = normalise(Σ_j softmax_j(q_i·k_j / τ) k_j)`,
//! `a_i = normalise(q_i ⊙ context_i)`, importance `w_i` over `a` (see [`Importance`]), `sim = q · contextᵀ / τ`,
//! `loss = ½ · 1/B · Σ_b Σ_i w_i · [CE(sim_i, i) + CE(simᵀ_i, i)]`; the whole is words→patches + patches→words.
//!
//! How this differs from the reference, which [`Semantics::Reference`] reproduces: the reference normalises the context
//! for words→patches but not for patches→words; padding words ask for patches (though no patch finds them), and the
//! patches of absent lateral views take part.
//!
//! # Shapes
//! `B` studies, `W` words, `P` patches of a study (one or two views), `D` embedding width.

use tch::{Kind, Tensor};

use crate::model::config::Semantics;
use crate::model::importance::Importance;
use crate::model::projection::unit;
use crate::model::{ImageEmbeddings, MedSt, ReportEmbeddings};

/// The local loss of a batch. Studies with and without a lateral view have different numbers of patches and are computed
/// as two groups.
pub fn local(model: &MedSt, images: &ImageEmbeddings, reports: &ReportEmbeddings, temperature: f64) -> Tensor {
    let studies = images.frontal_patches.size()[0];
    let device = images.frontal_patches.device();
    let rows = &images.features.lateral_rows;
    let alone: Vec<i64> = (0..studies).filter(|study| rows.binary_search(study).is_err()).collect();
    let select = |x: &Tensor, rows: &[i64]| {
        if rows.len() as i64 == studies {
            x.shallow_clone()
        } else {
            x.index_select(0, &Tensor::from_slice(rows).to_device(device))
        }
    };
    let mut sum = Tensor::zeros([1], (images.global.kind(), device)).squeeze();
    if !rows.is_empty() {
        let patches = Tensor::cat(&[select(&images.frontal_patches, rows), images.lateral_patches.shallow_clone()], 1);
        sum += both_directions(
            model,
            &select(&reports.words, rows),
            &select(&reports.word_exists, rows),
            &patches,
            temperature,
        );
    }
    if !alone.is_empty() {
        let patches = select(&images.frontal_patches, &alone);
        sum += both_directions(
            model,
            &select(&reports.words, &alone),
            &select(&reports.word_exists, &alone),
            &patches,
            temperature,
        );
    }
    sum / studies as f64
}

/// Sum over the studies of a group, `words` `[B, W, D]`, `word_exists` `[B, W]`, `patches` `[B, P, D]`.
fn both_directions(model: &MedSt, words: &Tensor, word_exists: &Tensor, patches: &Tensor, temperature: f64) -> Tensor {
    let corrected = model.config.semantics == Semantics::Corrected;
    directional(words, patches, corrected.then_some(word_exists), None, &model.word_importance, true, temperature)
        + directional(patches, words, None, Some(word_exists), &model.patch_importance, corrected, temperature)
}

/// One direction, summed over studies.
///
/// * `queries`: `[B, Q, D]`, `keys`: `[B, K, D]`, unit vectors; masks `[B, Q]` and `[B, K]`, true where a token exists.
fn directional(
    queries: &Tensor,
    keys: &Tensor,
    query_exists: Option<&Tensor>,
    key_exists: Option<&Tensor>,
    importance: &Importance,
    normalise_context: bool,
    temperature: f64,
) -> Tensor {
    let mut scores = queries.bmm(&keys.transpose(1, 2)) / temperature;
    if let Some(exists) = key_exists {
        scores = scores.masked_fill(&exists.logical_not().unsqueeze(1), f64::NEG_INFINITY);
    }
    let context = scores.softmax(-1, None::<Kind>).bmm(keys);
    let unit_context = unit(&context);
    let aligned = unit(&(queries * &unit_context));
    let weights = importance.weights(&aligned, query_exists);

    let target = if normalise_context { &unit_context } else { &context };
    let similarity = queries.bmm(&target.transpose(1, 2)) / temperature;
    let diagonal_entropy = |axis: i64| {
        // An absent token is no candidate for the others …
        let similarity = match query_exists {
            Some(exists) => {
                let candidates = exists.unsqueeze(if axis == 2 { 1 } else { 2 });
                similarity.masked_fill(&candidates.logical_not(), f64::from(f32::MIN) / 2.0)
            }
            None => similarity.shallow_clone(),
        };
        -similarity.log_softmax(axis, None::<Kind>).diagonal(0, 1, 2)
    };
    let mut entropy = diagonal_entropy(2) + diagonal_entropy(1);
    if let Some(exists) = query_exists {
        // … and asks nothing itself.
        entropy = entropy.masked_fill(&exists.logical_not(), 0.0);
    }
    (weights * entropy).sum(None::<Kind>) * 0.5
}
