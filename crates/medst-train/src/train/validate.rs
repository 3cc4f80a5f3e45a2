//! The validation split: mean losses, and retrieval over the whole split.

use tch::{Kind, Tensor};

use super::dataset::{Crop, Dataset};
use super::log::{Parts, Retrieval};
use super::sampler;
use crate::Result;
use crate::distributed::{Group, sum_numbers};
use crate::loss;
use crate::loss::config::LossConfig;
use crate::model::{MedSt, Mode};

/// Scores queries against candidates this many rows at a time, so that memory does not grow with
/// the square of the split.
const ROWS: i64 = 1024;

/// What the validation split says of a model.
#[derive(Clone, Copy, Debug)]
pub struct Validation {
    /// Means, weighted by studies.
    pub losses: Parts,
    pub retrieval: Retrieval,
}

/// Validates; `None` when the split has fewer than two studies with a report. Processes share whole
/// batches out, and all get the same result.
pub fn validate(
    model: &MedSt,
    dataset: &Dataset,
    config: &LossConfig,
    batch_size: usize,
    group: &Group,
) -> Result<Option<Validation>> {
    let order: Vec<usize> = (0..dataset.sequences.len()).collect();
    let batches = sampler::in_order(&order, &dataset.sequences, batch_size);
    let (mut parts, mut images, mut reports, mut count) = (Parts::default(), Vec::new(), Vec::new(), 0);
    let _guard = tch::no_grad_guard();
    for numbers in batches.into_iter().skip(group.rank()).step_by(group.size()) {
        let batch = dataset.batch(&numbers, Crop::Centre)?.to_device(model.device());
        let image = model.embed_images(&batch.images, Mode::Evaluate)?;
        let report = model.embed_reports(&batch.reports, Mode::Evaluate)?;
        let losses = loss::of_embeddings(model, &image, &report, &batch, config);
        let studies = batch.images.studies();
        parts.add(&Parts::from_losses(&losses), studies as f64);
        count += studies;
        images.push(image.global);
        reports.push(report.global);
    }
    let counts: Vec<i64> = group.gather_bytes(&i64::to_le_bytes(count)).into_iter().map(number).collect();
    let all: i64 = counts.iter().sum();
    if all == 0 {
        return Ok(None);
    }
    let sums = Parts::from_values(&sum_numbers(group, &parts.named().map(|(_, value)| value)));
    let mut mean = Parts::default();
    mean.add(&sums, 1.0 / all as f64);
    let options = (model.buffers()[0].tensor.kind(), model.device());
    let joined = |parts: &[Tensor]| match parts {
        [] => Tensor::zeros([0, model.config.projection.embedding], options),
        parts => Tensor::cat(parts, 0),
    };
    let [images, reports] = [&images, &reports].map(|parts| group.gather(&joined(parts), &counts));
    Ok(Some(Validation { losses: mean, retrieval: retrieval(&images, &reports, group) }))
}

fn number(bytes: Vec<u8>) -> i64 {
    i64::from_le_bytes(bytes.try_into().expect("eight bytes were sent"))
}

/// Recall at 1 and 5 of `[n, D]` unit vectors of images and reports, row by row of the same study;
/// both directions averaged. All processes hold all rows, and each scores some.
pub fn retrieval(images: &Tensor, reports: &Tensor, group: &Group) -> Retrieval {
    let studies = images.size()[0];
    let (mut at_1, mut at_5) = (0.0, 0.0);
    for (queries, candidates) in [(images, reports), (reports, images)] {
        for start in (0..studies).step_by(ROWS as usize).skip(group.rank()).step_by(group.size()) {
            let rows = ROWS.min(studies - start);
            let scores = queries.narrow(0, start, rows).matmul(&candidates.tr());
            let place = Tensor::arange_start(start, start + rows, (Kind::Int64, scores.device()));
            let score = scores.gather(1, &place.unsqueeze(1), false);
            // Ties count against the model: a constant embedding finds nothing.
            // Counting what is lower lets a score that is not a number find nothing as well.
            let lower = scores.lt_tensor(&score).sum_dim_intlist(&[1i64][..], false, Kind::Int64);
            let ahead: Tensor = studies - 1 - lower;
            at_1 += ahead.lt(1).sum(Kind::Int64).double_value(&[]);
            at_5 += ahead.lt(5).sum(Kind::Int64).double_value(&[]);
        }
    }
    let hits = sum_numbers(group, &[at_1, at_5]);
    (at_1, at_5) = (hits[0], hits[1]);
    let both = 2.0 * studies as f64;
    Retrieval { studies: studies as u64, recall_at_1: at_1 / both, recall_at_5: at_5 / both }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::distributed::alone;

    #[test]
    fn retrieval_finds_its_own_and_a_constant_finds_nothing() {
        let eye = Tensor::eye(8, (Kind::Float, Device::Cpu));
        assert_eq!(retrieval(&eye, &eye, &alone()).recall_at_1, 1.0);
        let shifted = retrieval(&eye, &eye.roll([1], [0]), &alone());
        assert_eq!(shifted.recall_at_1, 0.0);
        let constant = Tensor::ones([8, 4], (Kind::Float, Device::Cpu));
        assert_eq!(retrieval(&constant, &constant, &alone()).recall_at_5, 0.0);
        assert_eq!(retrieval(&eye, &eye, &alone()).chance(5), 5.0 / 8.0);
        let broken = constant * f64::NAN;
        assert_eq!(retrieval(&broken, &broken, &alone()).recall_at_5, 0.0);
    }
}
