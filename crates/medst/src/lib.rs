//! Med-ST: vision-language pre-training on multi-view, temporal chest radiographs.
//!
//! Yang, Su, Zhao, Wen: "Unlocking the Power of Spatial and Temporal Information in Medical Multimodal Pre-training",
//! ICML 2024, arXiv 2405.19654.
//!
//! * [`model`] — the image encoder with its view experts, the report encoder, the projections (paper, section 3.2);
//! * [`loss`] — global, local (modality-weighted) and temporal alignment (sections 3.3 and 3.4), as pure functions;
//! * [`train`] — batches, optimiser, schedule, checkpoints and the one visible loop;
//! * [`embed`] — embeddings of a corpus with a trained model.

pub mod config;
pub mod device;
pub mod embed;
pub mod error;
pub mod eval;
pub mod inspect;
pub mod loss;
pub mod model;
pub mod train;

pub use error::{Error, Result};
