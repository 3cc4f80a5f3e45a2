//! Data sets that are deflated as a whole (PS3.5, A.5), which are inflated only as far as their
//! pictures require.
//!
//! A megabyte of deflated data can hold a gigabyte. The required length follows from the rows and
//! columns that the file declares, so the elements before the pixels are inflated first.

use std::io::Read;

use dicom_dictionary_std::tags;
use flate2::read::DeflateDecoder;

use super::attributes::Format;
use super::dataset::{DataSet, Stop};
use super::encoding::Encoding;
use crate::{ImageError, cancel};

/// Numbers of bytes to inflate, one after the other, until the pixels are found. In a radiograph, a
/// few thousand bytes precede them.
const STEPS: [usize; 3] = [1 << 16, 1 << 20, 1 << 24];
/// Number of bytes by which the pixel data may exceed what rows and columns require, for example
/// because of padding.
const MOST_SURPLUS: usize = 1 << 16;
/// Bytes that are inflated between two questions whether the picture is still wanted.
const PIECE: usize = 1 << 20;
/// Length of the header of the pixel data: tag, type and length.
const PIXELS_HEAD: usize = 12;

/// The elements of a deflated data set up to the end of its pixels, or up to these.
///
/// Anything after the pixels is ignored.
///
/// # Errors
/// Data that cannot be inflated; too much in front of the pixels; more pixels than rows and columns
/// declare.
pub(super) fn inflate(bytes: &[u8], in_front_only: bool) -> Result<Vec<u8>, Stop> {
    let damaged = |what: &str| Stop::Refused(ImageError::damaged(format!("damaged DICOM: {what}")));
    let mut decoder = DeflateDecoder::new(bytes);
    let mut inflated = Vec::new();
    // Inflates up to a total length. Returns whether there was that much.
    let mut inflate_to = |length: usize, inflated: &mut Vec<u8>| {
        inflated.reserve_exact(length.saturating_sub(inflated.len()));
        while inflated.len() < length {
            cancel::check().map_err(Stop::Refused)?;
            let missing = (length - inflated.len()).min(PIECE);
            match (&mut decoder).take(missing as u64).read_to_end(inflated) {
                Ok(count) if count < missing => return Ok(false),
                Ok(_) => {}
                Err(error) => return Err(damaged(&format!("its deflated data cannot be decompressed: {error}"))),
            }
        }
        Ok(true)
    };
    for length in STEPS {
        if !inflate_to(length, &mut inflated)? {
            return Ok(inflated);
        }
        let end = match DataSet::read(&inflated, usize::MAX, Encoding::EXPLICIT, |tag| tag == tags::PIXEL_DATA) {
            Ok(front) if in_front_only => front.end,
            Ok(front) => {
                let expected = Format::of(&front).map_err(Stop::Refused)?.bytes();
                let declared = Encoding::EXPLICIT.length_at(&inflated, front.end).unwrap_or(0) as usize;
                if declared > expected + MOST_SURPLUS {
                    return Err(damaged(&format!("its pixel data have {declared} bytes, expected {expected}")));
                }
                front.end + PIXELS_HEAD + declared
            }
            Err(Stop::Short) => continue,
            Err(stop) => return Err(stop),
        };
        inflate_to(end, &mut inflated)?;
        inflated.truncate(end);
        return Ok(inflated);
    }
    Err(damaged("its elements are larger than those of a radiograph"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::super::{Window, decode, header_of};
    use super::*;
    use crate::dicom::write::{Pixels, Wrap};

    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

    /// Position at which the data set of a file begins.
    fn start(file: &[u8]) -> usize {
        144 + u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize
    }

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// A file of the given data set, deflated.
    fn deflated(data: &[u8]) -> Vec<u8> {
        let small = Wrap { transfer_syntax: DEFLATED, ..Wrap::new(Pixels::Grey8(&[0]), 1, 1) }.to_bytes().unwrap();
        [&small[..start(&small)], &deflate(data)].concat()
    }

    fn plain(rows: u16, columns: u16) -> (Vec<u8>, usize) {
        let pixels: Vec<u8> = (0..usize::from(rows) * usize::from(columns)).map(|n| (n % 251) as u8).collect();
        let whole = Wrap::new(Pixels::Grey8(&pixels), columns, rows).to_bytes().unwrap();
        let start = start(&whole);
        (whole, start)
    }

    #[test]
    fn a_deflated_file_is_read_as_the_same_file_is() {
        let (whole, start) = plain(300, 400);
        let deflated = deflated(&whole[start..]);
        assert_eq!(decode(&deflated, Window::Declared), decode(&whole, Window::Declared));
        assert_eq!(header_of(&deflated), header_of(&whole));
        assert!(
            decode(&deflated[..deflated.len() - 9], Window::Declared)
                .unwrap_err()
                .to_string()
                .contains("damaged DICOM")
        );
    }

    #[test]
    fn what_is_not_declared_is_not_inflated() {
        let (whole, start) = plain(16, 16);
        // Zeros after the picture, and a picture that is longer than its rows.
        let after = [&whole[start..], &vec![0; 40 << 20]].concat();
        let picture = inflate(&deflate(&after), false).unwrap();
        assert_eq!(picture, whole[start..]);
        let front = inflate(&deflate(&after), true).unwrap();
        assert_eq!(front, picture[..picture.len() - 16 * 16 - PIXELS_HEAD]);
        assert_eq!(decode(&deflated(&after), Window::Declared), decode(&whole, Window::Declared));
        let mut long = after;
        let at = long.windows(4).position(|bytes| bytes == [0xe0, 0x7f, 0x10, 0x00]).unwrap() + 8;
        long[at..at + 4].copy_from_slice(&(39u32 << 20).to_le_bytes());
        // A large element before the pixels.
        let large = [&[0x09, 0, 0x10, 0x10, b'O', b'B', 0, 0, 0, 0, 0, 2][..], &vec![0; 40 << 20]].concat();
        for (data, expected) in [(long, "bytes, expected 256"), (large, "larger than those of a radiograph")] {
            let bytes = deflated(&data);
            assert!(bytes.len() < 1 << 20);
            let error = decode(&bytes, Window::Declared).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
