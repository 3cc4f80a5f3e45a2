//! Local alignment across the batch (not part of the paper): the words of a report must find what
//! they name in their own picture rather than in other studies' pictures.
//!
//! The published local loss ([`super::local`]) contrasts a word's context with the contexts of
//! *other words of the same study*, which the positions of patches alone can tell apart: it reaches
//! zero on pictures that do not belong to the reports (`runs/needs_pictures.sh`). Here the contrast
//! is between studies, as in GLoRIA (Huang et al., ICCV 2021). What a word finds in a picture is a
//! smooth maximum over patches, as in FILIP (Yao et al., ICLR 2022), which uses the maximum: it is
//! computed in a third of the time that contexts take, and is what a heat map shows. Words count by
//! their importance, as in the paper:
//!
//! ```text
//! found_rbi = τ · log (1/P Σ_j exp(q_ri·k_bj / τ))         word i of report r in picture b
//! score_rb  = Σ_i w_ri found_rbi                           w_ri: importance, from its own picture
//! loss      = CE(score / τ_g, own picture) + CE(scoreᵀ / τ_g, own report)
//! ```
//!
//! τ is 0.1 as in the published loss, τ_g the temperature of the global loss. Work and memory grow
//! with the square of the batch: `B·P` patches times all words. Of several processes each looks for
//! all words in its own pictures; they pass words, and the scores of their pictures.
//!
//! # Shapes
//! `B` studies, `W` words, `N` words of all reports together, `P` patches of a study (one or two
//! views), `D` embedding width.

use tch::{Kind, Tensor};

use super::config::LossConfig;
use super::local::{Group, Layers, Tokens, groups};
use super::scale::Scale;
use crate::distributed::share::Share;

/// The loss of a batch, the same on every process.
///
/// * `share`: the studies that other processes have; `None` where all are here.
pub fn of_tokens(
    layers: &Layers<'_>,
    tokens: &Tokens<'_>,
    scale: &Scale<'_>,
    config: &LossConfig,
    share: Option<&Share>,
) -> Tensor {
    let temperature = config.local_temperature;
    let groups = groups(tokens);
    let order: Vec<i64> = groups.iter().flat_map(|group| group.rows.iter().copied()).collect();
    let back = places(&order).to_device(tokens.words.device());
    let in_order = |parts: &[Tensor]| Tensor::cat(parts, 0).index_select(0, &back);
    let importance: Vec<Tensor> = groups.iter().map(|group| group.word_importance(layers, temperature)).collect();
    let importance = if groups.is_empty() { tokens.words.select(2, 0) } else { in_order(&importance) };
    let asked = Words::new(tokens, &importance, share);
    let look = |group: &Group| {
        let patches = group.patches.size()[1] as f64;
        let scores = group.patches.matmul(&asked.words.tr()) / temperature;
        (scores.logsumexp([1i64], false) - patches.ln()) * temperature
    };
    let found: Vec<Tensor> = groups.iter().map(look).collect();
    let found = match found.is_empty() {
        true => {
            tokens.frontal_patches.sum_dim_intlist(&[1i64, 2][..], false, None::<Kind>).unsqueeze(1) * &asked.importance
        }
        false => in_order(&found),
    };
    let none = Tensor::zeros([found.size()[0], asked.reports], (found.kind(), found.device()));
    let scores_here = none.index_add(1, &asked.report, &(found * &asked.importance));
    let scores = share.map_or_else(|| scores_here.shallow_clone(), |share| share.gather(&scores_here).alike);
    let logits = scale.alike(share.map_or(0, |share| share.group.rank())).logits(&scores);
    let entropy = |axis: i64| -logits.log_softmax(axis, None::<Kind>).diagonal(0, 0, 1).mean(None::<Kind>);
    entropy(0) + entropy(1)
}

/// The `N` words of all reports of a batch.
struct Words {
    /// `[N, D]`.
    words: Tensor,
    /// `[N]`.
    importance: Tensor,
    /// `[N]` int64: the report that each is of.
    report: Tensor,
    /// How many reports there are.
    reports: i64,
}

impl Words {
    /// * `importance`: of the words of this process, `[B, W]`.
    fn new(tokens: &Tokens<'_>, importance: &Tensor, share: Option<&Share>) -> Words {
        let exists = tokens.word_exists.to_kind(importance.kind());
        // The values of a word are concatenated so that they can be passed as one tensor.
        let words_here = Tensor::cat(&[tokens.words, &importance.unsqueeze(2), &exists.unsqueeze(2)], 2);
        let all = match share {
            None => words_here,
            Some(share) => {
                let longest = share.group.gather_bytes(&words_here.size()[1].to_le_bytes());
                let number = |bytes: Vec<u8>| bytes.try_into().map_or(0, i64::from_le_bytes);
                let longest = longest.into_iter().map(number).max().unwrap_or(0);
                let [studies, words, columns] = [words_here.size()[0], words_here.size()[1], words_here.size()[2]];
                let padded =
                    words_here.constant_pad_nd([0, 0, 0, longest - words]).reshape([studies, longest * columns]);
                share.gather(&padded).divided.view([-1, longest, columns])
            }
        };
        let (reports, longest, columns) = (all.size()[0], all.size()[1], all.size()[2]);
        let all = all.reshape([reports * longest, columns]);
        let there = all.select(1, columns - 1).gt(0.5).nonzero().squeeze_dim(1);
        let all = all.index_select(0, &there);
        Words {
            words: all.narrow(1, 0, columns - 2),
            importance: all.select(1, columns - 2),
            report: there.floor_divide_scalar(longest),
            reports,
        }
    }
}

/// For each study, its position in `order`.
fn places(order: &[i64]) -> Tensor {
    let mut places = vec![0; order.len()];
    for (place, &row) in order.iter().enumerate() {
        places[row as usize] = place as i64;
    }
    Tensor::from_slice(&places)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::model::config::Semantics;
    use crate::model::importance::Importance;
    use crate::model::projection::unit;

    const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn units(shape: &[i64], seed: i64) -> Tensor {
        tch::manual_seed(seed);
        unit(&Tensor::randn(shape, DOUBLE))
    }

    struct Data {
        words: Tensor,
        exists: Tensor,
        frontal: Tensor,
        lateral: Tensor,
        rows: Vec<i64>,
        importance: [Importance; 2],
    }

    fn data() -> Data {
        let importance =
            [3, 4].map(|seed| Importance::from_tensors(units(&[16, 8], seed) * 3.0, Tensor::zeros([16], DOUBLE)));
        Data {
            words: units(&[3, 4, 8], 0),
            exists: Tensor::from_slice(&[true, true, true, true, true, true, false, false, true, true, true, false])
                .view([3, 4]),
            frontal: units(&[3, 5, 8], 1),
            lateral: units(&[1, 5, 8], 2),
            rows: vec![1],
            importance,
        }
    }

    impl Data {
        fn loss(&self) -> Tensor {
            let tokens = Tokens {
                words: &(&self.words * self.exists.unsqueeze(2).to_kind(Kind::Double)),
                word_exists: &self.exists,
                frontal_patches: &self.frontal,
                lateral_patches: &self.lateral,
                lateral_rows: &self.rows,
            };
            let [words, patches] = &self.importance;
            let layers = Layers { word_importance: words, patch_importance: patches, semantics: Semantics::Corrected };
            let config = LossConfig::default();
            of_tokens(&layers, &tokens, &Scale::fixed(config.global_temperature.first()), &config, None)
        }
    }

    /// Word by word, as the formula in the header.
    fn by_hand(data: &Data) -> f64 {
        let config = LossConfig::default();
        let tau = config.local_temperature;
        let patches = |b: i64| match b {
            1 => Tensor::cat(&[data.frontal.get(1), data.lateral.get(0)], 0),
            b => data.frontal.get(b),
        };
        let counts = [4, 2, 3];
        let mut scores = Tensor::zeros([3, 3], DOUBLE);
        for r in 0..3 {
            let words = data.words.get(r).narrow(0, 0, counts[r as usize]);
            let keys = patches(r);
            let context = unit(&(words.matmul(&keys.tr()) / tau).softmax(1, None::<Kind>).matmul(&keys));
            let weights = data.importance[0].weights(&unit(&(&context * &words)).unsqueeze(0), None).get(0);
            for b in 0..3 {
                let cosines = words.matmul(&patches(b).tr());
                let found = (cosines / tau).exp().mean_dim(&[1i64][..], false, None::<Kind>).log() * tau;
                scores.get(b).get(r).copy_(&(found * &weights).sum(None::<Kind>));
            }
        }
        scores /= config.global_temperature.first();
        let entropy = |axis: i64| -scores.log_softmax(axis, None::<Kind>).diagonal(0, 0, 1).mean(None::<Kind>);
        (entropy(0) + entropy(1)).double_value(&[])
    }

    #[test]
    fn the_loss_is_the_formula() {
        let data = data();
        let (ours, expected) = (data.loss().double_value(&[]), by_hand(&data));
        assert!((ours - expected).abs() < 1e-10, "{ours} {expected}");
    }

    /// Unlike the published loss, this one gets worse with pictures of other studies.
    #[test]
    fn pictures_that_do_not_belong_to_the_reports_cost() {
        let mut data = data();
        data.rows = Vec::new();
        data.lateral = Tensor::zeros([0, 5, 8], DOUBLE);
        // Every word equals one of the patches of the same study's picture.
        data.words = data.frontal.narrow(1, 0, 4);
        let loss = data.loss().double_value(&[]);
        data.frontal = data.frontal.roll([1], [0]);
        let others = data.loss().double_value(&[]);
        assert!(loss + 1.0 < others, "{loss} {others}");
    }

    #[test]
    fn absent_words_have_no_gradient() {
        let mut data = data();
        data.words = data.words.set_requires_grad(true);
        data.loss().backward();
        let gradient = data.words.grad();
        assert!(gradient.isfinite().all().int64_value(&[]) == 1);
        assert_eq!(gradient.get(1).narrow(0, 2, 2).abs().sum(None::<Kind>).double_value(&[]), 0.0);
        assert!(gradient.get(1).narrow(0, 0, 2).abs().sum(None::<Kind>).double_value(&[]) > 0.0);
    }
}
