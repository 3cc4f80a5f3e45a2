//! Radiographs in DICOM files: [`decode`] the picture, read subject, study and view from the
//! [`Header`].
//!
//! * `file`: preamble, meta group, transfer syntax
//! * `inflate`: deflated data sets, no further than their pictures need
//! * `encoding`: how elements are written, whatever the transfer syntax says
//! * `dataset`: elements and items, in place
//! * `values`: typed values of elements
//! * `attributes`: the format of the pixels
//! * `pixels`: stored pixels: native, RLE, JPEG (8 bit by the decoder of plain JPEG files;
//!   lossless), JPEG-LS, JPEG 2000
//! * `jpeg_2000_header`: into how many parts a JPEG 2000 codestream cuts its picture
//! * `voi`: from stored to grey values
//! * `header`: subject, study and view
//! * `write`: DICOM files of synthetic cohorts and tests
//!
//! Decoders know the size to expect before they take memory. The reference implementation scales
//! the stored values by their maximum and ignores what the file declares; that rule is
//! [`Window::Reference`].

mod attributes;
mod bits;
mod dataset;
mod encoding;
mod file;
mod header;
mod inflate;
mod jpeg_2000;
mod jpeg_2000_header;
mod jpeg_lossless;
mod jpeg_ls;
mod jpeg_stream;
#[cfg(test)]
mod odd_tests;
mod pixels;
mod rle;
#[cfg(test)]
mod tests;
mod values;
mod voi;
pub mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_dictionary_std::tags;
use serde::{Deserialize, Serialize};

use super::{GreyImage, ImageError, Notes};
use attributes::Format;
use dataset::{DataSet, Stop};
use file::with_data_set;
use pixels::{Coding, Pixels};

pub use file::is_dicom;
pub use header::{HEADER_BYTES, Header, ViewSource, header_of, header_of_start};

/// How stored values become grey values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// As the file declares: the modality transformation, then the file's window or table, or the
    /// full range if it has neither.
    #[default]
    Declared,
    /// As in the reference implementation: [`crate::scale_by_maximum`] of the stored values.
    Reference,
}

impl Window {
    pub const ALL: [Window; 2] = [Window::Declared, Window::Reference];

    /// The window of a name, if there is one.
    pub fn parse(name: &str) -> Option<Window> {
        Window::ALL.into_iter().find(|window| window.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Window::Declared => "declared",
            Window::Reference => "reference",
        }
    }
}

/// Reads a radiograph from the bytes of a DICOM file.
///
/// # Errors
/// A reason, without the file's name: damaged, several frames, no pixel data, a transfer syntax or
/// kind of pixel that is not supported, no or too many pixels.
pub fn decode(bytes: &[u8], window: Window) -> Result<GreyImage, ImageError> {
    decode_noting(bytes, window, &mut Notes::default())
}

/// Like [`decode`]; adds remarks on how the file was read to `notes`.
///
/// # Errors
/// As [`decode`].
pub fn decode_noting(bytes: &[u8], window: Window, notes: &mut Notes) -> Result<GreyImage, ImageError> {
    let picture = |set: &DataSet, syntax: Option<&str>, notes: &mut Notes| {
        // Before the attributes, since files of other syntaxes may lack them.
        let coding = Coding::of(syntax)?;
        let element = pixels::element(set)?;
        let format = Format::of(set)?;
        let grey = match pixels::read(element, &format, coding, notes)? {
            Pixels::Codes(codes) => voi::apply(set, &format, window, &codes, notes)?,
            Pixels::Luma(luma) => luma,
        };
        Ok(GreyImage { width: format.columns, height: format.rows, pixels: grey })
    };
    guarded(|| with_data_set(bytes, bytes.len(), |_| false, notes, picture).map_err(Stop::reason))
}

/// Bytes of memory per pixel that decoding takes at most, besides the file.
pub(super) fn memory_per_pixel(bytes: &[u8]) -> usize {
    // The elements or the inflated file, 16-bit values and grey values (measured: 6.1).
    const NATIVE: usize = 8;
    let until_pixels = |tag| tag == tags::PIXEL_DATA;
    let coding = |_: &DataSet, syntax: Option<&str>, _: &mut Notes| Coding::of(syntax);
    let compressed = |set: &DataSet, syntax: Option<&str>, _: &mut Notes| {
        Ok(pixels::memory_per_pixel(pixels::element(set)?, &Format::of(set)?, Coding::of(syntax)?))
    };
    let mut notes = Notes::default();
    match with_data_set(bytes, bytes.len(), until_pixels, &mut notes, coding) {
        Err(_) | Ok(Coding::Native) => NATIVE,
        Ok(_) => with_data_set(bytes, bytes.len(), |_| false, &mut notes, compressed).unwrap_or(NATIVE),
    }
}

/// Turns a panic into an error. The JPEG 2000 decoder is another project's, and holds assertions
/// that a damaged file can break; one such file must not end the preparation of a corpus.
fn guarded<T>(work: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(ImageError::damaged("damaged DICOM: its pixels cannot be decoded")))
}
