//! The Med-ST losses (paper, sections 3.3 and 3.4): pure functions of embeddings, masks and a small
//! configuration.
//!
//! [`global`] aligns images with reports, [`local`] patches with words, [`temporal`] sequences of
//! studies with each other. `across` aligns words with patches across studies, `change` what
//! changed with what a report says of it, [`findings`] learns from labels and boxes, [`scale`] has
//! the temperature. `sigmoid` is a form of [`global`] beyond the paper.

pub(crate) mod across;
pub(crate) mod change;
pub mod config;
pub mod findings;
pub mod global;
pub mod local;
pub mod scale;
pub(crate) mod sigmoid;
pub mod temporal;

use tch::Tensor;

use self::findings::{PARTS, Supervision};
use self::local::{Layers, Tokens};
use self::scale::Scale;
use crate::Result;
use crate::distributed::share::Share;
use crate::model::input::Batch;
use crate::model::vit::ImageFeatures;
use crate::model::{ImageEmbeddings, MedSt, Mode, ReportEmbeddings};
use config::{LocalKind, LossConfig};

/// Every part of one step's loss, each a scalar tensor, logged under its own name.
#[derive(Debug)]
pub struct Losses {
    /// `λ₁·global + λ₂·local + λ₃·(forward_mapping + reverse_mapping)`: what is differentiated.
    /// ([`config::TemporalKind`] leaves one of the last two out.)
    pub total: Tensor,
    pub global: Tensor,
    pub local: Tensor,
    /// Forward mapping classification, image→report and report→image.
    pub forward_mapping: Tensor,
    /// Reverse mapping regression, image→report and report→image.
    pub reverse_mapping: Tensor,
    /// The loss of changes between visits; zero if its weight is zero.
    pub change: Tensor,
    /// The loss of labels, boxes, phrases and courses; zero for models without heads for findings.
    pub findings: Tensor,
    pub boxes: Tensor,
    pub phrases: Tensor,
    pub courses: Tensor,
    /// Retrieval accuracy within the batch, both directions averaged, in `[0, 1]`.
    pub accuracy_at_1: Tensor,
    pub accuracy_at_5: Tensor,
}

/// Embeds a batch and computes every loss.
///
/// # Errors
/// When the batch does not fit the model.
pub fn med_st(model: &MedSt, batch: &Batch, config: &LossConfig, mode: Mode) -> Result<Losses> {
    if !config.reads_reports() {
        return Ok(supervised(model, &model.encode_images(&batch.images)?, batch, config));
    }
    let images = model.embed_images(&batch.images, mode)?;
    let reports = model.embed_reports(&batch.reports, mode)?;
    Ok(of_embeddings(model, &images, &reports, batch, config))
}

/// All losses of embedded studies.
///
/// * `batch`: how the studies belong together and what is known about them; the temporal parts are
///   exactly zero without sequences.
pub fn of_embeddings(
    model: &MedSt,
    images: &ImageEmbeddings,
    reports: &ReportEmbeddings,
    batch: &Batch,
    config: &LossConfig,
) -> Losses {
    of_share(model, images, reports, batch, config, None)
}

/// All losses of a batch of which this process embedded a share; the same on every process. The
/// gradient flows to its own studies.
///
/// * `batch`: this process's studies, and the relations of the whole batch.
pub fn of_share(
    model: &MedSt,
    images: &ImageEmbeddings,
    reports: &ReportEmbeddings,
    batch: &Batch,
    config: &LossConfig,
    share: Option<&Share>,
) -> Losses {
    let relations = &batch.relations;
    let [findings, boxes, phrases, courses] = supervision(model, &Seen::All(images, reports), batch, config, share);
    // The costliest part is left out where it counts for nothing.
    let local = match config.local_weight > 0.0 {
        true => local_loss(model, images, reports, share, config),
        false => zero(&images.global),
    };
    let scale = Scale::of_model(model, config);
    let (image, report, local, global) = match share {
        None => {
            let global = global::with_scale(&images.global, &reports.global, &scale, config);
            (images.global.shallow_clone(), reports.global.shallow_clone(), local, global)
        }
        Some(share) => {
            let rows = share.gather(&Tensor::cat(&[&images.global, &reports.global], 1));
            let both = |rows: &Tensor| rows.chunk(2, 1);
            let divided = both(&rows.divided);
            let studies = share.first()..share.first() + share.own();
            let part = global::part(&divided[0], &divided[1], &studies, &scale, config);
            let across = config.local == LocalKind::Across;
            let parts = [&local, &part.loss, &part.accuracy_at_1, &part.accuracy_at_5];
            let all = share.total(&Tensor::stack(&parts, 0));
            let [sum, loss, accuracy_at_1, accuracy_at_5] = [0, 1, 2, 3].map(|place| all.get(place));
            // That across the batch is the same everywhere already.
            let local = if across { local } else { sum };
            let alike = both(&rows.alike);
            let global = global::Global { loss, accuracy_at_1, accuracy_at_5 };
            (alike[0].shallow_clone(), alike[1].shallow_clone(), local, global)
        }
    };
    let temporal = temporal::temporal(&image, &report, relations, config);
    let change = match config.change_weight > 0.0 {
        true => {
            let rank = share.map_or(0, |share| share.group.rank());
            change::change(&image, &report, relations, &scale.alike(rank))
        }
        false => zero(&image),
    };
    let [forward, reverse] = config.temporal.factors();
    let total = &global.loss * config.global_weight
        + &local * config.local_weight
        + (&temporal.forward_mapping * forward + &temporal.reverse_mapping * reverse) * config.temporal_weight
        + &change * config.change_weight
        + &findings * config.findings_weight
        + &boxes * config.boxes_weight
        + &phrases * config.phrases_weight
        + &courses * config.courses_weight;
    Losses {
        total,
        global: global.loss,
        local,
        forward_mapping: temporal.forward_mapping,
        reverse_mapping: temporal.reverse_mapping,
        change,
        findings,
        boxes,
        phrases,
        courses,
        accuracy_at_1: global.accuracy_at_1,
        accuracy_at_5: global.accuracy_at_5,
    }
}

/// The local loss of a batch, of the configured kind.
///
/// * `share`: the studies that other processes have; `None` where all are here. Of several
///   processes each gives its part of the sum of the published loss, all give the same value of the
///   one across the batch.
fn local_loss(
    model: &MedSt,
    images: &ImageEmbeddings,
    reports: &ReportEmbeddings,
    share: Option<&Share>,
    config: &LossConfig,
) -> Tensor {
    let (layers, tokens) = (Layers::new(model), Tokens::new(images, reports));
    match config.local {
        LocalKind::Within => {
            let whole = share.map_or(images.global.size()[0], Share::studies);
            local::of_tokens(&layers, &tokens, whole, config)
        }
        LocalKind::Across => across::of_tokens(&layers, &tokens, &Scale::of_model(model, config), config, share),
    }
}

/// Zero, without a gradient.
fn zero(like: &Tensor) -> Tensor {
    Tensor::zeros([1i64; 0], (like.kind(), like.device()))
}

/// The losses of labels and boxes alone, from the states of the image encoder: what is left where
/// [`LossConfig::reads_reports`] is false.
pub fn supervised(model: &MedSt, features: &ImageFeatures, batch: &Batch, config: &LossConfig) -> Losses {
    let [findings, boxes, phrases, courses] = supervision(model, &Seen::Pictures(features), batch, config, None);
    let none = || zero(&findings);
    Losses {
        total: &findings * config.findings_weight + &boxes * config.boxes_weight,
        global: none(),
        local: none(),
        forward_mapping: none(),
        reverse_mapping: none(),
        change: none(),
        accuracy_at_1: none(),
        accuracy_at_5: none(),
        findings,
        boxes,
        phrases,
        courses,
    }
}

/// The outputs that labels and boxes are compared with.
enum Seen<'a> {
    /// The states of the image encoder alone.
    Pictures(&'a ImageFeatures),
    All(&'a ImageEmbeddings, &'a ReportEmbeddings),
}

/// The losses of labels, boxes, phrases and courses over the whole batch; zero without heads or
/// weights.
fn supervision(
    model: &MedSt,
    seen: &Seen<'_>,
    batch: &Batch,
    config: &LossConfig,
    share: Option<&Share>,
) -> [Tensor; PARTS] {
    let features = match seen {
        Seen::Pictures(features) => features,
        Seen::All(images, _) => &images.features,
    };
    let weights = [config.findings_weight, config.boxes_weight, config.phrases_weight, config.courses_weight];
    let asked = weights.iter().any(|&weight| weight > 0.0);
    let Some((logits, truth)) = asked.then(|| model.finding_logits(features)).flatten().zip(batch.truth.as_ref())
    else {
        return [(); PARTS].map(|()| zero(&features.image));
    };
    let mut supervision = Supervision::new(&logits, truth);
    if let Seen::All(images, reports) = seen {
        if config.phrases_weight > 0.0 {
            supervision = supervision.with_phrases(images, reports, truth, config);
        }
        if let Some(heads) = model.finding_heads().filter(|_| config.courses_weight > 0.0) {
            let first = share.map_or(0, Share::first);
            let sequences = own_sequences(&batch.relations.sequences, first..first + images.global.size()[0]);
            supervision = supervision.with_courses(heads, [&images.global, &reports.global], &sequences, truth);
        }
    }
    match share {
        None => supervision.means(),
        Some(share) => {
            let all = share
                .total(&Tensor::cat(&[Tensor::stack(&supervision.sums, 0), Tensor::stack(&supervision.counts, 0)], 0));
            let part = |first: usize| std::array::from_fn(|place| all.get((first + place) as i64));
            Supervision { sums: part(0), counts: part(PARTS) }.means()
        }
    }
}

/// The sequences of some `studies` of a batch, which are never divided, with their rows counted
/// from the first of these studies.
fn own_sequences(sequences: &Tensor, studies: std::ops::Range<i64>) -> Tensor {
    let first = sequences.select(1, 0);
    let inside = first.ge(studies.start).logical_and(&first.lt(studies.end)).nonzero().squeeze_dim(1);
    let rows = sequences.index_select(0, &inside);
    (&rows - studies.start).where_scalarother(&rows.ge(0), -1)
}
