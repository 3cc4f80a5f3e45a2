//! Evaluation: embeddings and truth in, a serialisable result out.

pub mod bootstrap;
pub mod folds;
pub mod metrics;
pub mod pairs;
pub mod published;
pub mod result;
pub mod svm;
pub mod tasks;
mod vectors;

pub use vectors::Vectors;
