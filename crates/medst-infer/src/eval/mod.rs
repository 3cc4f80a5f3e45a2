//! Evaluation: embeddings and truth in, a serialisable result out.
//!
//! | module | what |
//! |---|---|
//! | [`suite`] | which tasks corpora allow; runs them |
//! | [`tasks`] | one evaluator per task |
//! | [`encode`] | embeddings from a model or from files |
//! | [`result`], `published` | what comes out, and what papers report |
//! | [`report`] | as a page, as Markdown, as JSON |
//! | [`subgroups`] | figures by sex, age group, site, … and their largest gap |
//! | [`folds`], [`svm`], `logistic` | cross-validation; linear classifiers |
//! | [`pairs`] | embeddings of pairs of studies, with the courses between them |

pub mod encode;
pub mod folds;
pub(crate) mod logistic;
pub mod pairs;
pub(crate) mod published;
pub mod report;
pub mod result;
pub mod subgroups;
pub mod suite;
pub mod svm;
pub mod tasks;

pub use crate::infer::Vectors;
