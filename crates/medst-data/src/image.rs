//! Radiographs in files: `medst_image`, which decodes their bytes, and the functions that open them.

use std::io::Read;
use std::path::Path;

pub use medst_image::*;

use crate::storage::objects;
use crate::{Error, Result, input};

/// Reads a radiograph from a file.
///
/// # Errors
/// Names the file: missing, empty, truncated, of an unknown format, or with too many pixels.
pub fn read(path: &Path) -> Result<GreyImage> {
    let bytes = input::read(path, input::PICTURE).map_err(Error::io(path))?;
    decode::decode(&bytes).map_err(unreadable(path))
}

/// Reads a radiograph (a file, or an object where a path is an address) and fits it into a
/// `side`×`side` square.
///
/// # Errors
/// Names the file: missing, damaged, of an unknown format, too large or too narrow.
pub fn square(path: &Path, side: usize, decoding: Decoding) -> Result<Vec<u8>> {
    square_noting(path, side, decoding, &mut Notes::default())
}

/// Like [`square`]; adds remarks on how the file was read to `notes`.
///
/// # Errors
/// As [`square`].
pub fn square_noting(path: &Path, side: usize, decoding: Decoding, notes: &mut Notes) -> Result<Vec<u8>> {
    let bytes = objects::read(path)?;
    load::square_of_noting(&bytes, side, decoding, notes).map_err(unreadable(path))
}

/// Reads the header of a DICOM file, up to its pixels.
///
/// # Errors
/// Names the file: missing, not DICOM, damaged.
pub fn dicom_header(path: &Path) -> Result<dicom::Header> {
    let mut start = Vec::new();
    let file = input::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    file.take(dicom::HEADER_BYTES).read_to_end(&mut start).map_err(Error::io(path))?;
    let header = match dicom::header_of_start(&start, usize::try_from(length).unwrap_or(usize::MAX)) {
        Some(header) => header,
        None => dicom::header_of(&input::read(path, input::PICTURE).map_err(Error::io(path))?),
    };
    header.map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(ImageError) -> Error {
    let path = path.to_path_buf();
    move |reason| Error::Image { path, reason }
}
