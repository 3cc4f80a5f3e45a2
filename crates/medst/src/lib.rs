//! Med-ST: vision-language pre-training on multi-view, temporal chest radiographs.
//!
//! Yang, Su, Zhao, Wen: "Unlocking the Power of Spatial and Temporal Information in Medical Multimodal Pre-training",
//! ICML 2024, arXiv 2405.19654.
//!
//! * [`model`] — the image encoder with its view experts, the report encoder, the projections (paper, section 3.2);
//! * [`loss`] — global, local (modality-weighted) and temporal alignment (sections 3.3 and 3.4), as pure functions;
//! * [`train`] — batches, optimiser, schedule, checkpoints and the one visible loop;
//! * [`finetune`] — an encoder and a head, trained for one task;
//! * [`distributed`] — several processes, one run;
//! * [`card`] — model and data cards;
//! * [`convert`] — weights of other programs, in and out;
//! * [`embed`] — a trained model in use: embeddings of studies and texts, heat maps;
//! * [`infer`] — a trained model on files, texts and requests: the inference engine, and what is built on it;
//! * [`eval`] — evaluation tasks on embeddings, from a model or from files.

pub mod card;
pub mod config;
pub mod convert;
pub mod device;
pub mod distributed;
pub mod embed;
pub mod error;
pub mod eval;
pub mod finetune;
pub mod infer;
pub mod inspect;
pub mod loss;
pub mod memory;
pub mod model;
mod ops;
mod removed;
pub mod train;
pub mod verify;

pub use error::{Error, Result};
