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
    if config.negatives == Negatives::All {
        return None;
    }
    assert_eq!(relations.subjects.len() as i64, studies, "a number of its subject for every study");
    let subjects: Vec<i64> = relations.subjects.iter().map(|&subject| subject.into()).collect();
    let subjects = send_rows(&subjects, device);
    let of_rows = subjects.narrow(0, rows.start, rows.end - rows.start).unsqueeze(1);
    let same = subjects.unsqueeze(0).eq_tensor(&of_rows);
    Some(same.logical_and(&own(rows, studies, (Kind::Bool, device)).logical_not()))
}

/// Which column is a row's own study: 1 or true there, `[R, B]`.
pub(super) fn own(rows: &Range<i64>, studies: i64, options: (Kind, Device)) -> Tensor {
    let own = Tensor::zeros([rows.end - rows.start, studies], options);
    let _ = own.diagonal(rows.start, 0, 1).fill_(1);
    own
}
