//! Importers: from what researchers have to a corpus.
//!
//! [`table`] reads rows, [`assemble`] makes studies of them, [`crate::corpus::write`] decodes the pictures and writes.

pub mod assemble;
pub mod summary;
pub mod table;
pub mod values;

use std::path::Path;

pub use summary::Summary;

use crate::Result;
use crate::corpus::write::{self, Source};
use crate::progress::Progress;
use crate::sequence::SequenceUnit;

/// How a corpus is made.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Side of the stored pictures in pixels.
    pub image_size: usize,
    pub sequence_unit: SequenceUnit,
    /// Studies of a full sequence.
    pub sequence_length: usize,
    /// Replace a corpus that is already there.
    pub overwrite: bool,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        PrepareOptions { image_size: 256, sequence_unit: SequenceUnit::Study, sequence_length: 4, overwrite: false }
    }
}

/// Prepares a corpus from a table of images (CSV, gzipped CSV or Parquet; see [`table`] for its columns).
///
/// An interrupted run continues where it was; a finished one appears at `out` at once.
///
/// # Errors
/// Tables that cannot be understood, subjects in two splits, an `out` that cannot be written. Rows that cannot be used
/// are counted and listed in `skipped.csv` instead.
pub fn prepare_table(table: &Path, out: &Path, options: &PrepareOptions, progress: &dyn Progress) -> Result<Summary> {
    let content = table::read(table)?;
    let source = Source { kind: "table".into(), name: file_name(table), sha256: write::checksum(table)? };
    let plan = assemble::assemble(content, table, options.sequence_unit)?;
    write::write(plan, source, out, options, progress)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
