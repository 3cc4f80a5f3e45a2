//! Figures of merit. Pure functions of truth, prediction and a weight for each row; undefined is
//! `None`, never NaN.
//!
//! Definitions are scikit-learn's where it has one: `roc_auc_score`, `average_precision_score`,
//! `f1_score`, `balanced_accuracy_score` (here: macro accuracy).

mod calibration;
mod classes;
mod ranking;

pub use calibration::{Bin, Calibration};
pub use classes::ConfusionMatrix;
pub use ranking::{Point, Ranking};
