//! A Med-ST model in use, and its evaluation.
//!
//! * [`infer`] — the inference engine (pictures and texts in, vectors out), and what is built on
//!   it;
//! * [`eval`] — evaluation tasks on embeddings, from a model or from files;
//! * [`labels`] — what labels and tables of a corpus say about findings;
//! * [`stats`] — figures of merit and their intervals.
//!
//! Evaluation uses the engine, not the other way round; both use labels and statistics.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod eval;
pub mod infer;
pub mod labels;
pub mod stats;

use medst_model::{Error, Result, device, loss, model, open, task};
