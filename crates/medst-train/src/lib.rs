//! Pre-training, and what describes its results.
//!
//! * [`train`] — batches, optimiser, schedule, checkpoints and the one visible loop;
//! * [`finetune`] — an image encoder and a linear head, trained for one task;
//! * [`inspect`] — what a run, a checkpoint or a file of weights holds;
//! * [`card`] — model and data cards;
//! * [`verify`] — whether files still hold what was written to them.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod card;
pub mod finetune;
pub mod inspect;
pub mod train;
pub mod verify;

use medst_infer::{eval, infer, labels, stats};
use medst_model::{Error, Result, config, convert, device, distributed, loss, model, open, ops, weights_input};
