//! Heads for findings: two linear maps, of the image feature and of every frontal patch, to one
//! logit per finding; and for each finding a direction of the embeddings, along which images move
//! as the finding worsens, and which sentences about its course share.
//!
//! They are not part of the paper. From random weights image-text contrast alone teaches an encoder
//! to see very slowly; the labels and boxes of a corpus teach it in minutes, after which the
//! paper's losses have something to align (supervised first, then aligned, as in GreenRFM, arXiv
//! 2603.06467). A run that starts from such an encoder takes it with
//! `init.weights = "encoders=FILE"` and needs no labels itself.
//!
//! Letters: `B` studies, `P` patches per view, `F` findings, `H` encoder width, `D` embedding
//! width, `N` pairs of visits.

use tch::Tensor;

use super::layers::Linear;
use super::parameters::Scope;
use super::projection::unit;
use super::vit::ImageFeatures;

/// Temperature that divides the cosine with a direction.
const COURSE_TEMPERATURE: f64 = 0.1;

/// Linear heads for the configured findings.
#[derive(Debug)]
pub struct FindingHeads {
    study: Linear,
    patch: Linear,
    course: Linear,
}

/// Outputs of the heads.
#[derive(Debug)]
pub struct FindingLogits {
    /// `[B, F]`.
    pub study: Tensor,
    /// `[B, P, F]`, of the frontal patches.
    pub patches: Tensor,
}

impl FindingHeads {
    /// `None` where no findings are configured.
    pub fn new(scope: &Scope, width: i64, embedding: i64, findings: usize) -> Option<FindingHeads> {
        let head = |name: &str, inputs: i64| Linear::new(&scope.at(name), inputs, findings as i64);
        (findings > 0).then(|| FindingHeads {
            study: head("finding_head.study", width),
            patch: head("finding_head.patch", width),
            course: head("finding_head.course", embedding),
        })
    }

    pub fn forward(&self, features: &ImageFeatures) -> FindingLogits {
        let kind = self.study.weight.kind();
        FindingLogits {
            study: self.study.forward(&features.image.to_kind(kind)),
            patches: self.patch.forward(&features.frontal_patches.to_kind(kind)),
        }
    }

    /// The logits `[N, F]` of "worsening" and of "improving" for what changed in the image
    /// embedding, or for the embedding of a sentence, `[N, D]`. With time reversed they change
    /// places; those of an unchanged image are alike.
    ///
    /// Directions are unit vectors, so that a course has to show in the embedding rather than in
    /// the weights.
    pub fn courses(&self, change: &Tensor) -> [Tensor; 2] {
        let directions = unit(&self.course.weight);
        let towards = change.to_kind(directions.kind()).matmul(&directions.tr()) / COURSE_TEMPERATURE;
        [&towards + &self.course.bias, &self.course.bias - &towards]
    }
}
