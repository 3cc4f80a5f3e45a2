//! Which studies of a batch are candidates for each other in the global loss: all, unless the configuration takes some out.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::config::{LossConfig, Negatives};
use crate::device::send_rows;
use crate::model::input::Relations;

/// Pairs of studies that are not contrasted, `[R, B]` bool, false for a study with itself; `None` where all are.
///
/// * `rows`: the `R` studies whose candidates are asked for.
pub fn excluded(
    rows: &Range<i64>,
    studies: i64,
    relations: &Relations,
    config: &LossConfig,
    device: Device,
) -> Option<Tensor> {
    let of_rows = |all: &Tensor| all.narrow(0, rows.start, rows.end - rows.start).unsqueeze(1);
    let mut excluded: Option<Tensor> = None;
    let mut add = |pairs: Tensor| {
        excluded = Some(match excluded.take() {
            Some(others) => others.logical_or(&pairs),
            None => pairs,
        });
    };
    if config.global_parts > 1 {
        let parts: Vec<i64> = (0..studies).map(|study| study * config.global_parts / studies.max(1)).collect();
        let parts = send_rows(&parts, device);
        add(parts.unsqueeze(0).ne_tensor(&of_rows(&parts)));
    }
    if config.negatives == Negatives::OtherSubjects {
        assert_eq!(relations.subjects.len() as i64, studies, "a number of its subject for every study");
        let subjects: Vec<i64> = relations.subjects.iter().map(|&subject| subject.into()).collect();
        let subjects = send_rows(&subjects, device);
        let same = subjects.unsqueeze(0).eq_tensor(&of_rows(&subjects));
        add(same.logical_and(&own(rows, studies, (Kind::Bool, device)).logical_not()));
    }
    excluded
}

/// Which column is a row's own study: 1 or true there, `[R, B]`.
pub(super) fn own(rows: &Range<i64>, studies: i64, options: (Kind, Device)) -> Tensor {
    let own = Tensor::zeros([rows.end - rows.start, studies], options);
    let _ = own.diagonal(rows.start, 0, 1).fill_(1);
    own
}
