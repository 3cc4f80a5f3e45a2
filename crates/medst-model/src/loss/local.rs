//! Modality-weighted local alignment (paper, section 3.3): each word finds its context among the
//! patches, each patch among the words, and important tokens count more.
//!
//! For queries `q` and keys `k` of one study:
//! `context_i = normalise(Σ_j softmax_j(q_i·k_j / τ) k_j)`, `a_i = normalise(q_i ⊙ context_i)`,
//! importance `w_i` over `a` (see [`Importance`]), `sim = q · contextᵀ / τ`,
//! `loss = ½ · 1/B · Σ_b Σ_i w_i · [CE(sim_i, i) + CE(simᵀ_i, i)]`; the whole is words→patches +
//! patches→words.
//!
//! How this differs from the reference, which `semantics = "reference"` reproduces: the reference
//! normalises the context for words→patches but not for patches→words; padding words ask for
//! patches (though no patch finds them), and the patches of absent lateral views take part.
//!
//! # Shapes
//! `B` studies, `W` words, `P` patches of a study (one or two views), `D` embedding width.

use tch::{Kind, Tensor};

use super::config::LossConfig;
use crate::device::send_rows;
use crate::model::config::Semantics;
use crate::model::importance::Importance;
use crate::model::projection::unit;
use crate::model::{ImageEmbeddings, MedSt, ReportEmbeddings};

/// The layers of a model that the local loss uses.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    pub word_importance: &'a Importance,
    pub patch_importance: &'a Importance,
    pub semantics: Semantics,
}

impl Layers<'_> {
    pub(crate) fn new(model: &MedSt) -> Layers<'_> {
        Layers {
            word_importance: &model.word_importance,
            patch_importance: &model.patch_importance,
            semantics: model.config.semantics,
        }
    }
}

/// The local embeddings of a batch, unit vectors; `L` of the studies have a lateral view.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// `[B, W, D]`.
    pub words: &'a Tensor,
    /// `[B, W]` bool.
    pub word_exists: &'a Tensor,
    /// `[B, P, D]`.
    pub frontal_patches: &'a Tensor,
    /// `[L, P, D]`.
    pub lateral_patches: &'a Tensor,
    /// For each lateral view, the row of its study; ascending.
    pub lateral_rows: &'a [i64],
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(images: &'a ImageEmbeddings, reports: &'a ReportEmbeddings) -> Tokens<'a> {
        Tokens {
            words: &reports.words,
            word_exists: &reports.word_exists,
            frontal_patches: &images.frontal_patches,
            lateral_patches: &images.lateral_patches,
            lateral_rows: &images.features.lateral_rows,
        }
    }
}

/// The loss of a batch.
///
/// * `whole`: the number of studies that the sum is divided by: of the whole batch, where other
///   processes have the rest of it.
pub fn of_tokens(layers: &Layers<'_>, tokens: &Tokens<'_>, whole: i64, config: &LossConfig) -> Tensor {
    let mut sum = Tensor::zeros([1], (tokens.words.kind(), tokens.words.device())).squeeze();
    for group in groups(tokens) {
        sum += both_directions(layers, &group.words, &group.word_exists, &group.patches, config);
    }
    if tokens.frontal_patches.size()[0] == 0 {
        // Zero, but a function of the embeddings, so that the backward pass takes the same way as
        // on other processes.
        sum = tokens.frontal_patches.sum(None::<Kind>) + tokens.words.sum(None::<Kind>);
    }
    sum / whole as f64
}

/// Studies with the same number of patches.
pub(super) struct Group {
    /// Their rows in the batch, ascending.
    pub rows: Vec<i64>,
    /// `[G, W, D]`.
    pub words: Tensor,
    /// `[G, W]` bool.
    pub word_exists: Tensor,
    /// `[G, P, D]`.
    pub patches: Tensor,
}

impl Group {
    /// The importance of each word in its own picture, `[G, W]`, as in the words→patches direction.
    pub fn word_importance(&self, layers: &Layers<'_>, temperature: f64) -> Tensor {
        let direction = Direction {
            queries: &self.words,
            keys: &self.patches,
            query_exists: Some(&self.word_exists),
            key_exists: None,
            importance: layers.word_importance,
            normalise_context: true,
            temperature,
        };
        direction.weights(&direction.context())
    }
}

/// Studies with and without a lateral view, which have different numbers of patches; groups without
/// a study are left out.
pub(super) fn groups(tokens: &Tokens<'_>) -> Vec<Group> {
    let studies = tokens.frontal_patches.size()[0];
    let device = tokens.frontal_patches.device();
    let with_lateral = tokens.lateral_rows.to_vec();
    let frontal_alone = (0..studies).filter(|study| with_lateral.binary_search(study).is_err()).collect();
    let select = |x: &Tensor, rows: &[i64]| {
        if rows.len() as i64 == studies { x.shallow_clone() } else { x.index_select(0, &send_rows(rows, device)) }
    };
    let group = |rows: Vec<i64>, laterals: Option<&Tensor>| {
        let frontal = select(tokens.frontal_patches, &rows);
        Group {
            words: select(tokens.words, &rows),
            word_exists: select(tokens.word_exists, &rows),
            patches: match laterals {
                Some(laterals) => Tensor::cat(&[&frontal, laterals], 1),
                None => frontal,
            },
            rows,
        }
    };
    let all = [(with_lateral, Some(tokens.lateral_patches)), (frontal_alone, None)];
    all.into_iter().filter(|(rows, _)| !rows.is_empty()).map(|(rows, laterals)| group(rows, laterals)).collect()
}

/// Sum over the studies of a group, `words` `[B, W, D]`, `word_exists` `[B, W]`, `patches`
/// `[B, P, D]`.
fn both_directions(
    layers: &Layers<'_>,
    words: &Tensor,
    word_exists: &Tensor,
    patches: &Tensor,
    config: &LossConfig,
) -> Tensor {
    let asking = (layers.semantics == Semantics::Corrected).then_some(word_exists);
    let temperature = config.local_temperature;
    let of_words = Direction {
        queries: words,
        keys: patches,
        query_exists: asking,
        key_exists: None,
        importance: layers.word_importance,
        normalise_context: true,
        temperature,
    };
    let of_patches = Direction {
        queries: patches,
        keys: words,
        query_exists: None,
        key_exists: Some(word_exists),
        importance: layers.patch_importance,
        normalise_context: layers.semantics == Semantics::Corrected,
        temperature,
    };
    let loss = |direction: &Direction| {
        let context = direction.context();
        direction.loss(&context, &direction.weights(&context))
    };
    loss(&of_words) + loss(&of_patches)
}

/// One direction, from queries `[B, Q, D]` to keys `[B, K, D]`, unit vectors; masks `[B, Q]` and
/// `[B, K]`, true where a token exists.
struct Direction<'a> {
    queries: &'a Tensor,
    keys: &'a Tensor,
    query_exists: Option<&'a Tensor>,
    key_exists: Option<&'a Tensor>,
    importance: &'a Importance,
    normalise_context: bool,
    temperature: f64,
}

/// The weighted mean of the keys that each query finds, `[B, Q, D]`, raw and as a unit vector.
struct Context {
    raw: Tensor,
    unit: Tensor,
}

impl Direction<'_> {
    /// Computes the context of each query among the keys.
    fn context(&self) -> Context {
        let mut scores = self.queries.bmm(&self.keys.transpose(1, 2)) / self.temperature;
        if let Some(exists) = self.key_exists {
            scores = scores.masked_fill(&exists.logical_not().unsqueeze(1), f64::NEG_INFINITY);
        }
        let raw = scores.softmax(-1, None::<Kind>).bmm(self.keys);
        Context { unit: unit(&raw), raw }
    }

    /// Learned importance of the queries `[B, Q]`.
    fn weights(&self, context: &Context) -> Tensor {
        self.importance.weights(&unit(&(self.queries * &context.unit)), self.query_exists)
    }

    /// Summed over studies.
    fn loss(&self, context: &Context, weights: &Tensor) -> Tensor {
        let target = if self.normalise_context { &context.unit } else { &context.raw };
        let similarity = self.queries.bmm(&target.transpose(1, 2)) / self.temperature;
        let diagonal_entropy = |axis: i64| {
            // An absent token is not a candidate for the others …
            let similarity = match self.query_exists {
                Some(exists) => {
                    let candidates = exists.unsqueeze(if axis == 2 { 1 } else { 2 });
                    similarity.masked_fill(&candidates.logical_not(), f64::from(f32::MIN) / 2.0)
                }
                None => similarity.shallow_clone(),
            };
            -similarity.log_softmax(axis, None::<Kind>).diagonal(0, 1, 2)
        };
        let mut entropy = diagonal_entropy(2) + diagonal_entropy(1);
        if let Some(exists) = self.query_exists {
            // … and asks nothing itself.
            entropy = entropy.masked_fill(&exists.logical_not(), 0.0);
        }
        (weights * entropy).sum(None::<Kind>) * 0.5
    }
}
