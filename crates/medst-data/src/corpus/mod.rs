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
//!
//! * [`plan`], `options`, `summary` – what an importer gives the writer, how it is asked for,
//!   and what comes back
//! * `write`: the writer; `staging`, `pictures`, `journal`, `join`, `copies` and `together`
//!   are its steps
//! * `read` – the reader
//! * [`manifest`], `tables`, `shards` – the files
//! * [`remote`] – corpora in object storage

mod copies;
mod join;
mod journal;
pub mod manifest;
pub(crate) mod options;
mod pictures;
pub mod plan;
pub(crate) mod read;
pub mod remote;
pub(crate) mod shards;
pub(crate) mod staging;
pub(crate) mod summary;
pub(crate) mod tables;
pub(crate) mod together;
pub(crate) mod write;

pub use manifest::{Counts, Manifest};
pub use read::Corpus;
