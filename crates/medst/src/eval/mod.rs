//! Evaluation.

pub mod bootstrap;
pub mod folds;
pub mod metrics;
pub mod svm;
mod vectors;

pub use vectors::Vectors;
