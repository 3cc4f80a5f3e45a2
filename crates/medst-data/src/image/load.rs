//! From a file to the square that a corpus stores.

use std::path::Path;

use super::{Decoding, decode, resize};
use crate::{Error, Result};

/// Reads a radiograph and fits it into a `side`×`side` square.
///
/// # Errors
/// Names the file: not there, damaged, of an unknown format, too large or too thin.
pub fn square(path: &Path, side: usize, _decoding: Decoding) -> Result<Vec<u8>> {
    let fail = |message: String| Error::Image { path: path.to_path_buf(), message };
    let image = decode::read(path)?;
    resize::to_square(&image, side).map_err(fail)
}
