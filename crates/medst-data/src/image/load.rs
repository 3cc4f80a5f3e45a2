//! From a file to the square that a corpus stores.

use std::path::Path;

use super::{Decoding, GreyImage, decode, dicom, jpeg, resize};
use crate::storage::objects;
use crate::{Error, Result};

/// Reads a radiograph (a file, or an object where a path is an address) and fits it into a `side`×`side` square.
///
/// # Errors
/// Names the file: not there, damaged, of an unknown format, too large or too thin.
pub fn square(path: &Path, side: usize, decoding: Decoding) -> Result<Vec<u8>> {
    let bytes = objects::read(path)?;
    square_of(&bytes, side, decoding).map_err(|message| Error::Image { path: path.to_path_buf(), message })
}

/// As [`square`], from the bytes of a JPEG, PNG or DICOM file.
///
/// # Errors
/// A reason, without the file's name.
pub fn square_of(bytes: &[u8], side: usize, decoding: Decoding) -> Result<Vec<u8>, String> {
    if !decoding.exact
        && let Some(square) = jpeg::to_square(bytes, side)
    {
        return square;
    }
    resize::to_square(&picture_of(bytes, decoding)?, side)
}

/// The whole picture of a JPEG, PNG or DICOM file.
///
/// # Errors
/// A reason, without the file's name.
pub fn picture_of(bytes: &[u8], decoding: Decoding) -> Result<GreyImage, String> {
    match dicom::is_dicom(bytes) {
        true => dicom::decode(bytes, decoding.window),
        false => decode::decode(bytes),
    }
}
