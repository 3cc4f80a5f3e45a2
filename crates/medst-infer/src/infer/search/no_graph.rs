//! In place of [`graph`](super) where approximate search was not compiled: every search is exact.

use std::path::Path;

use medst_data::progress::Progress;

use super::{GraphError, MISSING};
use crate::infer::vectors::Vectors;
use crate::{Error, Result};

/// No number of images is worth a graph that cannot be built.
pub const WORTHWHILE: usize = usize::MAX;

/// There is none.
pub enum Graph {}

/// # Errors
/// Always.
pub fn build(_images: &Vectors, _places: &[Option<usize>], _folder: &Path, _progress: &dyn Progress) -> Result<f64> {
    Err(Error::Input(MISSING.into()))
}

impl Graph {
    /// # Errors
    /// Always.
    pub fn open(_folder: &Path, _studies: usize) -> Result<Graph, GraphError> {
        Err(GraphError::NotCompiled)
    }

    pub fn nearest(&self, _query: &[f32], _count: usize) -> Vec<usize> {
        match *self {}
    }
}
