//! Statistics of weighted rows: pure functions of truth and predictions.
//!
//! | module | what |
//! |---|---|
//! | [`metrics`] | figures of merit |
//! | [`bootstrap`] | their confidence intervals |

pub mod bootstrap;
pub mod metrics;
