//! A Med-ST model in use, and its evaluation.
//!
//! * [`embed`] — embeddings of a corpus' studies and of texts, heat maps;
//! * [`infer`] — a model on files, texts and requests: the inference engine, and what is built on it;
//! * [`eval`] — evaluation tasks on embeddings, from a model or from files.

pub mod embed;
pub mod eval;
pub mod infer;

use medst_model::{Error, Result, device, loss, model, task};
