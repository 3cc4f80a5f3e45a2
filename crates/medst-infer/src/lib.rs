//! A Med-ST model in use, and its evaluation.
//!
//! * [`infer`] — the inference engine (pictures and texts in, vectors out), and what is built on
//!   it;
//! * [`eval`] — evaluation tasks on embeddings, from a model or from files.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod eval;
pub mod infer;

use medst_model::{Error, Result, device, loss, model, task};
