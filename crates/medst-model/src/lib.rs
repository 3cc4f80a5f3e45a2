//! The Med-ST model and what belongs to it: losses, configuration, weights in and out. Nothing here
//! trains or evaluates.
//!
//! * [`distributed`] — several processes that compute one batch;
//! * [`model`] — the image encoder with its view experts, the report encoder, the projections
//!   (paper, section 3.2);
//! * [`loss`] — global, local (modality-weighted) and temporal alignment (sections 3.3 and 3.4), as
//!   pure functions;
//! * [`weights_input`] — how files of weights are named;
//! * [`config`] — what a run is made of, as a file;
//! * [`convert`] — weights of other programs, in and out;
//! * [`open`] — a model for use: built in, a run, a checkpoint, a file.
//!
//! Each uses only those above it.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod config;
pub mod convert;
pub mod device;
pub mod distributed;
pub mod error;
mod former;
pub mod loss;
pub mod memory;
pub mod model;
pub mod open;
pub mod ops;
pub mod task;
pub mod waiting;
pub mod weights_input;

pub use error::{Error, Result};
