//! Which studies of a batch are candidates for each other in the global loss: all, unless the configuration takes some out.

use tch::{Device, Kind, Tensor};

use super::config::{LossConfig, Negatives};
use crate::model::input::Relations;

/// Pairs of studies that are not contrasted, `[B, B]` bool with a false diagonal; `None` where all are.
pub fn excluded(studies: i64, relations: &Relations, config: &LossConfig, device: Device) -> Option<Tensor> {
    let mut excluded: Option<Tensor> = None;
    let mut add = |pairs: Tensor| {
        excluded = Some(match excluded.take() {
            Some(others) => others.logical_or(&pairs),
            None => pairs,
        });
    };
    if config.global_parts > 1 {
        let parts: Vec<i64> = (0..studies).map(|study| study * config.global_parts / studies.max(1)).collect();
        let parts = Tensor::from_slice(&parts).to_device(device);
        add(parts.unsqueeze(0).ne_tensor(&parts.unsqueeze(1)));
    }
    if config.negatives == Negatives::OtherSubjects {
        assert_eq!(relations.subjects.len() as i64, studies, "a number of its subject for every study");
        let subjects: Vec<i64> = relations.subjects.iter().map(|&subject| subject.into()).collect();
        let subjects = Tensor::from_slice(&subjects).to_device(device);
        let own = Tensor::eye(studies, (Kind::Bool, device));
        add(subjects.unsqueeze(0).eq_tensor(&subjects.unsqueeze(1)).logical_and(&own.logical_not()));
    }
    excluded
}
