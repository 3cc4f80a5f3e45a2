//! Data sets that are deflated as a whole (PS3.5, A.5): inflated here, no further than their pixels need.
//!
//! A megabyte of deflated data can hold a gigabyte. How much a file may hold follows from the rows and columns that it
//! declares, which are inflated first.

use std::borrow::Cow;
use std::io::Read;

use dicom_dictionary_std::tags;
use dicom_object::file::ReadPreamble;
use dicom_object::{InMemDicomObject, OpenFileOptions};
use flate2::read::DeflateDecoder;

use super::attributes::integer;
use super::{damaged, lengths};
use crate::image::decode::check_size;

const DEFLATED: &[u8] = b"1.2.840.10008.1.2.1.99";
/// The same, not deflated, padded to the length of the former.
const EXPLICIT: &[u8] = b"1.2.840.10008.1.2.1\0\0\0";
/// Bytes of all elements but the pixels.
const MOST_OTHER: u64 = 16 << 20;
/// What is inflated to find the pixels, until it holds them.
const STEPS: [u64; 3] = [1 << 16, 1 << 20, MOST_OTHER];

/// Whether the data set of a file of this transfer syntax is deflated.
pub fn is_deflated(transfer_syntax: &str) -> bool {
    transfer_syntax.trim_end_matches(['\0', ' ']).as_bytes() == DEFLATED
}

/// Up to where a data set is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    Pixels,
    End,
}

/// The file with its data set inflated; a file that is not deflated as it is.
///
/// # Errors
/// Deflated data that are damaged, or larger than the picture that they declare.
pub fn inflated(bytes: &[u8], until: Until) -> Result<Cow<'_, [u8]>, String> {
    let start = lengths::check_meta(bytes, bytes.len())?;
    // The element with the transfer syntax: its tag and type, then two bytes of length.
    let element = bytes[..start].windows(6).position(|window| window == [2, 0, 0x10, 0, b'U', b'I']);
    let Some(syntax) = element.map(|at| at + 8..at + 8 + DEFLATED.len()) else { return Ok(bytes.into()) };
    if bytes.get(syntax.clone()) != Some(DEFLATED) || syntax.end > start {
        return Ok(bytes.into());
    }
    let mut whole = bytes[..start].to_vec();
    whole[syntax].copy_from_slice(EXPLICIT);
    let mut deflated = DeflateDecoder::new(&bytes[start..]);
    let mut inflate = |whole: &mut Vec<u8>, most: u64| {
        let more = (start as u64 + most).saturating_sub(whole.len() as u64);
        let read = deflated.by_ref().take(more).read_to_end(whole);
        read.map_err(|error| format!("damaged DICOM: its data cannot be inflated ({error}); the file may be truncated"))
    };
    for most in STEPS {
        inflate(&mut whole, most)?;
        let ended = (whole.len() as u64) < start as u64 + most;
        let Some(pixels) = lengths::pixels(&whole, start)? else {
            if ended {
                return Ok(whole.into());
            }
            continue;
        };
        if until == Until::Pixels {
            whole.truncate(pixels.element);
            return Ok(whole.into());
        }
        if pixels.length > most_pixels(&whole[..pixels.element])? {
            return Err("damaged DICOM: its deflated pixels are more than its rows and columns declare".into());
        }
        let most = pixels.length + MOST_OTHER;
        inflate(&mut whole, most + 1)?;
        return match whole.len() as u64 > start as u64 + most {
            true => Err("damaged DICOM: its deflated data are larger than its picture".into()),
            false => Ok(whole.into()),
        };
    }
    Err(format!("damaged DICOM: more than {} MiB of deflated data before its pixels", MOST_OTHER >> 20))
}

/// Bytes that the pixels take by what the other elements declare.
fn most_pixels(header: &[u8]) -> Result<u64, String> {
    lengths::check(header, header.len(), "1.2.840.10008.1.2.1")?;
    let options = OpenFileOptions::new().read_preamble(ReadPreamble::Always);
    let object: InMemDicomObject = options.from_reader(header).map_err(damaged)?.into_inner();
    let number = |tag, name| {
        let value = integer(&object, tag).and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| format!("{name} is missing"))
    };
    let (rows, columns) = (number(tags::ROWS, "Rows")?, number(tags::COLUMNS, "Columns")?);
    check_size(columns, rows)?;
    let samples = number(tags::SAMPLES_PER_PIXEL, "SamplesPerPixel").unwrap_or(1).min(3);
    let bytes = number(tags::BITS_ALLOCATED, "BitsAllocated")?.div_ceil(8).min(2);
    // An odd number of bytes is padded.
    Ok((rows * columns * samples * bytes) as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Window, decode, header_of};
    use super::*;
    use crate::image::dicom::write::{Pixels, Wrap};
    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use std::io::Write;

    /// A file of the given data set, deflated.
    fn deflated(data: &[u8]) -> Vec<u8> {
        let small = Wrap { transfer_syntax: "1.2.840.10008.1.2.1.99", ..Wrap::new(Pixels::Grey8(&[0]), 1, 1) };
        let small = small.to_bytes().unwrap();
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        [&small[..lengths::check_meta(&small, small.len()).unwrap()], &encoder.finish().unwrap()].concat()
    }

    fn plain(rows: u16, columns: u16) -> (Vec<u8>, usize) {
        let pixels: Vec<u8> = (0..usize::from(rows) * usize::from(columns)).map(|n| (n % 251) as u8).collect();
        let whole = Wrap::new(Pixels::Grey8(&pixels), columns, rows).to_bytes().unwrap();
        let start = lengths::check_meta(&whole, whole.len()).unwrap();
        (whole, start)
    }

    #[test]
    fn a_deflated_file_is_read_as_the_same_file_is() {
        let (whole, start) = plain(300, 400);
        let deflated = deflated(&whole[start..]);
        assert_eq!(decode(&deflated, Window::Declared), decode(&whole, Window::Declared));
        assert_eq!(header_of(&deflated), header_of(&whole));
        let header = inflated(&deflated, Until::Pixels).unwrap();
        assert!(header.len() < 4000 && matches!(inflated(&whole, Until::End), Ok(Cow::Borrowed(_))));
        assert!(decode(&deflated[..deflated.len() - 9], Window::Declared).unwrap_err().contains("damaged DICOM"));
    }

    #[test]
    fn what_is_not_declared_is_not_inflated() {
        let (whole, start) = plain(16, 16);
        // Zeros after the picture, and a picture that is longer than its rows.
        let after = [&whole[start..], &vec![0; 40 << 20]].concat();
        let mut long = after.clone();
        let at = long.windows(4).position(|bytes| bytes == [0xe0, 0x7f, 0x10, 0x00]).unwrap() + 8;
        long[at..at + 4].copy_from_slice(&(39u32 << 20).to_le_bytes());
        // A large element before the pixels.
        let large = [&[0x09, 0, 0x10, 0x10, b'O', b'B', 0, 0, 0, 0, 0, 2][..], &vec![0; 40 << 20]].concat();
        for (data, expected) in [
            (after, "larger than its picture"),
            (long, "than its rows and columns declare"),
            (large, "before its pixels"),
        ] {
            let bytes = deflated(&data);
            assert!(bytes.len() < 1 << 20);
            let error = decode(&bytes, Window::Declared).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
