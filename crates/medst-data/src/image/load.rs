//! From a file to the square that a corpus stores.

use std::path::Path;

use super::{Decoding, decode, dicom, jpeg, resize};
use crate::{Error, Result};

/// Reads a radiograph and fits it into a `side`×`side` square.
///
/// # Errors
/// Names the file: not there, damaged, of an unknown format, too large or too thin.
pub fn square(path: &Path, side: usize, decoding: Decoding) -> Result<Vec<u8>> {
    let fail = |message: String| Error::Image { path: path.to_path_buf(), message };
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    if !decoding.exact
        && let Some(square) = jpeg::to_square(&bytes, side)
    {
        return square.map_err(fail);
    }
    let image = match dicom::is_dicom(&bytes) {
        true => dicom::decode(&bytes, decoding.window),
        false => decode::decode(&bytes),
    };
    let image = image.map_err(fail)?;
    resize::to_square(&image, side).map_err(fail)
}
