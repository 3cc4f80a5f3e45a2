//! The settings of a preparation.

use std::path::PathBuf;

use crate::image::Decoding;
use crate::report::Rule;
use crate::sequence::{Chunks, SequenceUnit};

/// How a corpus is made.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Side of the stored pictures in pixels.
    pub image_size: usize,
    pub sequence_unit: SequenceUnit,
    /// How the studies of a subject become sequences.
    pub chunks: Chunks,
    pub decoding: Decoding,
    /// How reports become plain sentences.
    pub report_rule: Rule,
    /// A split file that decides instead of the source.
    pub splits: Option<PathBuf>,
    /// Tables whose subjects are left out.
    pub exclude: Vec<PathBuf>,
    /// Which columns of a table are carried along as labels.
    pub labels: Labels,
    /// Replace a corpus that is already there.
    pub overwrite: bool,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        PrepareOptions {
            image_size: 256,
            sequence_unit: SequenceUnit::Study,
            chunks: Chunks::default(),
            decoding: Decoding::default(),
            report_rule: Rule::default(),
            splits: None,
            exclude: Vec::new(),
            labels: Labels::default(),
            overwrite: false,
        }
    }
}

/// Which columns become labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    All,
    /// All but those that identify a patient, of which only the named are carried along.
    WithoutPatients {
        but: Vec<String>,
    },
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::WithoutPatients { but: Vec::new() }
    }
}
