//! Radiographs in DICOM files: [`decode`] the picture, read what the [`header`] says of subject, study and view.
//!
//! Parsing is dicom-rs's. The compressed frames are decoded here, by decoders that know the size to expect: native pixels,
//! RLE, JPEG (8 bit by the decoder of plain JPEG files; lossless), JPEG-LS, JPEG 2000. The reference implementation scales the
//! stored values by their maximum and ignores what the file declares; that rule is [`Window::Reference`].

mod attributes;
mod bits;
mod header;
mod inflate;
mod jpeg_2000_header;
mod jpeg_lossless;
mod jpeg_ls;
mod jpeg_stream;
mod lengths;
mod pixels;
mod rle;
#[cfg(test)]
mod tests;
mod voi;
pub mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_object::file::ReadPreamble;
use dicom_object::{FileMetaTable, InMemDicomObject, OpenFileOptions};
use serde::{Deserialize, Serialize};

use super::GreyImage;
use attributes::Format;
use pixels::{Coding, Pixels};

pub use header::{Header, ViewSource, header, header_of};

/// How stored values become grey values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// As the file declares: modality transformation, then its window or table, else the full range.
    #[default]
    Declared,
    /// As the reference implementation: [`crate::image::scale_by_maximum`] of the stored values.
    Reference,
}

/// Whether bytes are those of a DICOM file: "DICM" after a preamble of 128 bytes.
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

/// Reads a radiograph from the bytes of a DICOM file.
///
/// # Errors
/// A reason, without the file's name: damaged, several frames, no pixel data, a transfer syntax or kind of pixel that is not
/// read, no or too many pixels.
pub fn decode(bytes: &[u8], window: Window) -> Result<GreyImage, String> {
    guarded(|| {
        let (object, coding) = open(bytes)?;
        let format = Format::of(&object)?;
        let grey = match pixels::read(&object, &format, coding)? {
            Pixels::Codes(codes) => voi::apply(&object, &format, window, &codes)?,
            Pixels::Luma(luma) => luma,
        };
        Ok(GreyImage { width: format.columns, height: format.rows, pixels: grey })
    })
}

/// Bytes of memory per pixel that decoding takes at most, besides the file.
pub(super) fn memory_per_pixel(bytes: &[u8]) -> usize {
    let meta = guarded(|| FileMetaTable::from_reader(bytes.get(128..).unwrap_or_default()).map_err(damaged));
    match meta.map(|meta| Coding::of(meta.transfer_syntax())) {
        // Coefficients and samples of 32 bits, parts of the picture and grey values (measured: 17.4 of one component).
        Ok(Ok(Coding::Jpeg2000)) => 22 * pixels::jpeg_2000_components(bytes).unwrap_or(1).clamp(1, 3),
        // The elements or the inflated file, their bytes, 16-bit values and grey values (measured: 6.1).
        _ => 8,
    }
}

fn open(bytes: &[u8]) -> Result<(InMemDicomObject, Coding), String> {
    if !is_dicom(bytes) {
        return Err("not a DICOM file: \"DICM\" is missing at byte 128".into());
    }
    // First the meta group alone: what follows cannot be read without its transfer syntax, and the reason must name it.
    lengths::check_meta(bytes, bytes.len())?;
    let meta = FileMetaTable::from_reader(&bytes[128..]).map_err(damaged)?;
    let coding = Coding::of(meta.transfer_syntax())?;
    let bytes = &*inflate::inflated(bytes, inflate::Until::End)?;
    lengths::check(bytes, bytes.len(), meta.transfer_syntax())?;
    let options = OpenFileOptions::new().read_preamble(ReadPreamble::Always);
    let object = options.from_reader(bytes).map_err(damaged)?;
    Ok((object.into_inner(), coding))
}

/// An error of dicom-rs with its causes, in one line.
fn damaged(error: impl std::error::Error) -> String {
    let mut message = format!("damaged DICOM: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}

/// Turns a panic into an error. The parser and the JPEG 2000 decoder are not ours, and hold assertions that a damaged file can
/// break; one such file must not end the preparation of a corpus.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("damaged DICOM: its decoder gave up".into()))
}
