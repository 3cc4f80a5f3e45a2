//! Pre-training, and what describes its results.
//!
//! * [`train`] — batches, optimiser, schedule, checkpoints and the one visible loop;
//! * [`inspect`] — what a run, a checkpoint or a file of weights holds;
//! * [`card`] — model and data cards;
//! * [`verify`] — whether files still hold what was written to them.

pub mod card;
pub mod inspect;
pub mod train;
pub mod verify;

use medst_infer::{embed, eval};
use medst_model::{Error, Result, config, convert, distributed, loss, model, ops};
