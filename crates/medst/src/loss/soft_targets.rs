//! Soft targets for near-identical reports: "no pneumothorax" of one patient fits the next one as well, and to call it wrong
//! teaches nothing (beyond the paper; after the observation of MedCLIP, Wang et al. 2022, that unpaired reports need not be
//! negatives).
//!
//! `target = (1 − α)·I + α·softmax(similarity / τ)`, rows over the candidates of a study; without gradient. What is similar is a matter of the
//! reports' words, of their embeddings, or of a slower model that teaches (momentum distillation of Li et al., *Align before Fuse*, 2021).
//!
//! # Shapes
//! `B` studies, `D` embedding width.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::candidates;
use super::config::{LossConfig, Similarity};
use crate::device::send;
use crate::model::input::Relations;

/// Targets of images among reports and of reports among images, each `[R, B]` with rows that sum to 1, 0 for pairs that are `excluded` (`[R, B]`
/// bool); `None` where a study is its own only target, as where nobody teaches (validation).
///
/// * `report`: `[B, D]` unit vectors.
/// * `rows`: the `R` studies whose targets are asked for.
pub fn targets(
    report: &Tensor,
    rows: &Range<i64>,
    excluded: Option<&Tensor>,
    relations: &Relations,
    config: &LossConfig,
) -> Option<[Tensor; 2]> {
    if config.soft_targets == 0.0 {
        return None;
    }
    let studies = report.size()[0];
    let of_rows = |all: &Tensor| all.narrow(0, rows.start, rows.end - rows.start);
    // Two reports are as similar one way as the other; an image to a report and its report to the other image need not be.
    let (of_images, of_reports) = match config.soft_target_similarity {
        Similarity::Embedding => (of_rows(&report.detach()).matmul(&report.detach().tr()), None),
        Similarity::Text => (send(&overlap(&relations.pieces, rows), report.device()), None),
        Similarity::Momentum => {
            let [image, report] = relations.taught.as_ref()?;
            (of_rows(image).matmul(&report.tr()), Some(of_rows(report).matmul(&image.tr())))
        }
    };
    let own = candidates::own(rows, studies, (report.kind(), report.device())) * (1.0 - config.soft_targets);
    let towards = |similarity: &Tensor| {
        assert_eq!(similarity.size(), own.size(), "the word pieces of every study");
        let mut scores = similarity.to_kind(report.kind()) / config.soft_target_temperature;
        if let Some(excluded) = excluded {
            scores = scores.masked_fill(excluded, f64::NEG_INFINITY);
        }
        &own + scores.softmax(-1, None::<Kind>) * config.soft_targets
    };
    let of_images = towards(&of_images);
    let of_reports = of_reports.map_or_else(|| of_images.shallow_clone(), |own| towards(&own));
    Some([of_images, of_reports])
}

/// Cosine of sets: `|a ∩ b| / √(|a|·|b|)`, of `rows` with all, `[R, B]`; 0 for an empty set.
fn overlap(sets: &[Vec<u32>], rows: &Range<i64>) -> Tensor {
    let rows = &sets[rows.start as usize..rows.end as usize];
    let mut values = Vec::with_capacity(rows.len() * sets.len());
    for a in rows {
        for b in sets {
            let scale = ((a.len() * b.len()) as f64).sqrt();
            values.push(if scale > 0.0 { shared(a, b) as f64 / scale } else { 0.0 });
        }
    }
    Tensor::from_slice(&values).view([rows.len() as i64, sets.len() as i64])
}

/// How many values two ascending lists share.
fn shared(a: &[u32], b: &[u32]) -> usize {
    let (mut a, mut b, mut count) = (a.iter().peekable(), b.iter().peekable(), 0);
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => drop(a.next()),
            std::cmp::Ordering::Greater => drop(b.next()),
            std::cmp::Ordering::Equal => {
                count += 1;
                a.next();
                b.next();
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn relations(pieces: &[&[u32]]) -> Relations {
        let none = Tensor::zeros([0, 2], (Kind::Int64, Device::Cpu));
        Relations { pieces: pieces.iter().map(|own| own.to_vec()).collect(), ..Relations::of_sequences(none) }
    }

    #[test]
    fn the_same_report_shares_the_target_and_another_hardly_does() {
        let config = LossConfig { soft_targets: 0.5, soft_target_temperature: 0.05, ..LossConfig::default() };
        let known = relations(&[&[1, 2, 3], &[1, 2, 3], &[7, 8]]);
        let report = Tensor::eye(3, (Kind::Double, Device::Cpu));
        let [found, _] = targets(&report, &(0..3), None, &known, &config).unwrap();
        let value = |row: i64, column: i64| found.double_value(&[row, column]);
        assert!(
            (value(0, 1) - 0.25).abs() < 1e-6 && (value(0, 0) - 0.75).abs() < 1e-6,
            "{}",
            found.to_string(80).unwrap()
        );
        assert!(value(0, 2) < 1e-6 && value(2, 2) > 1.0 - 1e-6);
        let excluded = Tensor::from_slice(&[false, true, false, true, false, false, false, false, false]).view([3, 3]);
        let [found, _] = targets(&report, &(0..3), Some(&excluded), &known, &config).unwrap();
        assert!(found.double_value(&[0, 1]) == 0.0 && found.double_value(&[0, 0]) > 1.0 - 1e-6);
    }

    #[test]
    fn rows_sum_to_one_whatever_the_similarity_and_no_share_means_none() {
        tch::manual_seed(3);
        let report = crate::model::projection::unit(&Tensor::randn([4, 8], (Kind::Double, Device::Cpu)));
        let known = relations(&[&[], &[1], &[1, 2], &[4]]);
        for soft_target_similarity in [Similarity::Text, Similarity::Embedding] {
            let config = LossConfig { soft_targets: 0.3, soft_target_similarity, ..LossConfig::default() };
            let both = targets(&report, &(0..4), None, &known, &config).unwrap();
            for found in &both {
                let sums = found.sum_dim_intlist(&[1i64][..], false, None::<Kind>);
                assert!(sums.allclose(&sums.ones_like(), 1e-12, 1e-12, false));
            }
            assert!(both[0].allclose(&both[1], 1e-12, 1e-12, false), "reports are alike either way");
        }
        assert!(targets(&report, &(0..4), None, &known, &LossConfig::default()).is_none());
    }

    #[test]
    fn a_teacher_is_believed_in_both_directions_and_not_missed_where_there_is_none() {
        let config = LossConfig {
            soft_targets: 0.5,
            soft_target_similarity: Similarity::Momentum,
            soft_target_temperature: 0.1,
            ..LossConfig::default()
        };
        let report = Tensor::eye(2, (Kind::Double, Device::Cpu));
        assert!(targets(&report, &(0..2), None, &relations(&[]), &config).is_none());
        // The first image resembles both reports, the second its own alone.
        let image = Tensor::from_slice(&[1.0, 1.0, -1.0, 1.0]).view([2, 2]);
        let known = Relations { taught: Some([image, report.shallow_clone()]), ..relations(&[]) };
        let [of_images, of_reports] = targets(&report, &(0..2), None, &known, &config).unwrap();
        let expected = |values: [f64; 4]| Tensor::from_slice(&values).view([2, 2]);
        assert!(of_images.allclose(&expected([0.75, 0.25, 0.0, 1.0]), 1e-6, 1e-6, false), "{of_images:?}");
        assert!(of_reports.allclose(&expected([1.0, 0.0, 0.25, 0.75]), 1e-6, 1e-6, false), "{of_reports:?}");
    }
}
