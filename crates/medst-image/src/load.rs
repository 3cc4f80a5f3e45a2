//! From the bytes of a file to the square that a corpus stores.

use super::exif::Orientation;
use super::{Decoding, GreyImage, ImageError, Notes, decode, dicom, jpeg, resize};

/// Fits the radiograph of a JPEG, PNG or DICOM file into a square of `side`×`side` pixels.
///
/// # Errors
/// A reason, without the file's name.
pub fn square_of(bytes: &[u8], side: usize, decoding: Decoding) -> Result<Vec<u8>, ImageError> {
    square_of_noting(bytes, side, decoding, &mut Notes::default())
}

/// Like [`square_of`]; adds remarks on how the file was read to `notes`.
///
/// # Errors
/// As [`square_of`].
pub fn square_of_noting(
    bytes: &[u8],
    side: usize,
    decoding: Decoding,
    notes: &mut Notes,
) -> Result<Vec<u8>, ImageError> {
    if !decoding.exact
        && let Some(square) = jpeg::to_square(bytes, side)
    {
        return Ok(square);
    }
    resize::to_square(&picture_noting(bytes, decoding, notes)?, side)
}

/// The whole picture and its square, as [`picture_of`] and [`square_of`] give them, by one
/// decoding.
///
/// # Errors
/// A reason, without the file's name.
pub fn picture_and_square(bytes: &[u8], side: usize, decoding: Decoding) -> Result<(GreyImage, Vec<u8>), ImageError> {
    if decoding.exact || !bytes.starts_with(&[0xff, 0xd8]) {
        let picture = picture_of(bytes, decoding)?;
        let square = resize::to_square(&picture, side)?;
        return Ok((picture, square));
    }
    let (picture, square) = jpeg::decode_with_square(bytes, side)?;
    let picture = Orientation::of_jpeg(bytes).apply(picture);
    let square = square.map_or_else(|| resize::to_square(&picture, side), Ok)?;
    Ok((picture, square))
}

/// The whole picture of a JPEG, PNG or DICOM file.
///
/// # Errors
/// A reason, without the file's name.
pub fn picture_of(bytes: &[u8], decoding: Decoding) -> Result<GreyImage, ImageError> {
    picture_noting(bytes, decoding, &mut Notes::default())
}

/// Like [`picture_of`]; adds remarks on how the file was read to `notes`.
///
/// # Errors
/// As [`picture_of`].
pub fn picture_noting(bytes: &[u8], decoding: Decoding, notes: &mut Notes) -> Result<GreyImage, ImageError> {
    match dicom::is_dicom(bytes) {
        true => dicom::decode_noting(bytes, decoding.window, notes),
        false => decode::decode_noting(bytes, notes),
    }
}
