//! The corpus on disk.
//!
//! | file | what |
//! |---|---|
//! | `corpus.json` | [`manifest::Manifest`]: format, settings, counts, checksums |
//! | `studies.parquet` | one row per study |
//! | `sequences.parquet` | one row per sequence |
//! | `images-NNNNN.npy` | uint8 `[n, side, side]`; any NumPy opens it |
//! | `skipped.csv` | what was left out, and why |
//! | `splits.csv` | the part of every study |
//! | `SHA256SUMS` | checksums of all of these ([`crate::files::sums`]) |

mod copies;
mod join;
mod journal;
pub mod manifest;
mod pictures;
pub mod read;
pub mod shards;
pub(crate) mod staging;
pub mod tables;
pub(crate) mod together;
pub mod write;

pub use manifest::{Counts, Manifest};
pub use read::Corpus;
