//! Radiographs in files: `medst_image`, which decodes their bytes, and the functions that open
//! them.

use std::io::Read;
use std::path::Path;

pub use medst_image::*;

use crate::storage::objects;
use crate::{Error, Result, input};

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
    load::square_of_noting(&bytes, side, decoding, notes).map_err(Error::image(path))
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
    header.map_err(Error::image(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_cannot_be_read_is_an_error_with_the_name_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("make.py");
        std::fs::write(&path, "print('no radiograph')\n").unwrap();
        let error = dicom_header(&path).unwrap_err().to_string();
        assert!(error.contains("make.py") && error.contains("not a DICOM file"), "{error}");
    }

    /// More in front of the pixels than is read at first.
    #[test]
    fn a_long_header_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.dcm");
        let (subject, uid) = ("p".repeat(40_000), "1".repeat(40_000));
        assert!((subject.len() + uid.len()) as u64 > dicom::HEADER_BYTES);
        let wrap = dicom::write::Wrap {
            subject_id: &subject,
            study_uid: &uid,
            view_position: Some("AP"),
            ..dicom::write::Wrap::new(dicom::write::Pixels::Grey8(&[1, 2]), 2, 1)
        };
        std::fs::write(&path, wrap.to_bytes().unwrap()).unwrap();
        let header = dicom_header(&path).unwrap();
        assert_eq!((header.view, header.columns), (Some(View::Ap), Some(2)));
        assert_eq!(header.subject_id.as_deref(), Some(&*subject));
    }
}
