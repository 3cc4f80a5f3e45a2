//! The Med-ST model and what belongs to it: losses, configuration, weights in and out. Nothing here
//! trains or evaluates.
//!
//! * [`model`] — the image encoder with its view experts, the report encoder, the projections
//!   (paper, section 3.2);
//! * [`loss`] — global, local (modality-weighted) and temporal alignment (sections 3.3 and 3.4), as
//!   pure functions;
//! * [`distributed`] — several processes that compute one batch;
//! * [`config`] — what a run is made of, as a file;
//! * [`convert`] — weights of other programs, in and out.

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
pub mod ops;
pub mod task;
pub mod waiting;

pub use error::{Error, Result};
