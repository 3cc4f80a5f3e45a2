//! A Med-ST model in use, and its evaluation.
//!
//! * [`infer`] — the inference engine (pictures and texts in, vectors out), and what is built on
//!   it;
//! * [`eval`] — evaluation tasks on embeddings, from a model or from files.

pub mod eval;
pub mod infer;

use medst_model::{Error, Result, device, loss, model, task};
