//! Radiographs: [`decode`](mod@decode) the bytes of a JPEG, PNG or DICOM file, [`resize`] the
//! picture to the stored square, [`crop`] it for the model.
//!
//! Nothing here opens files; `medst_data::image` does.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cancel;
pub mod crop;
pub mod decode;
pub mod dicom;
mod error;
mod exif;
pub mod jpeg;
pub mod load;
mod notes;
pub mod png;
pub mod resize;
pub mod size;
mod view;

pub use error::ImageError;
pub use notes::Notes;
use serde::{Deserialize, Serialize};
pub use view::View;

/// An 8-bit grey picture, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GreyImage {
    pub width: usize,
    pub height: usize,
    /// `width · height` values, 0 is black.
    pub pixels: Vec<u8>,
}

impl GreyImage {
    /// From samples of 8 bit, row by row: grey, grey with alpha, RGB or RGBA, as PNG files of that
    /// kind are read.
    ///
    /// # Errors
    /// A reason: another number of channels, no or too many pixels, samples that do not fill the
    /// picture.
    pub fn of_samples(width: usize, height: usize, channels: usize, samples: Vec<u8>) -> Result<GreyImage, ImageError> {
        error::check_size(width, height)?;
        if width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels)) != Some(samples.len()) {
            let count = samples.len();
            return Err(ImageError::Samples(
                format!("{count} samples do not make an image of {width}×{height} pixels with {channels} channels")
                    .into(),
            ));
        }
        let pixels = match channels {
            1 => samples,
            2 => samples.chunks_exact(2).map(|pixel| pixel[0]).collect(),
            3 | 4 => samples.chunks_exact(channels).map(png::luma).collect(),
            other => {
                return Err(ImageError::Samples(format!("{other} channels; an image has 1 (grey) to 4 (RGBA)").into()));
            }
        };
        Ok(GreyImage { width, height, pixels })
    }
}

/// The depth of values in bits, by the largest of them: the smallest of 8, 10, 12, 14 and 16 that
/// holds it. Detectors give values of these depths, and files often keep them in words of 16 bits
/// without saying so.
pub(crate) fn fitting_depth(largest: u16) -> u32 {
    [8, 10, 12, 14].into_iter().find(|&depth| u32::from(largest) < 1 << depth).unwrap_or(16)
}

/// The reference's rule for pictures deeper than 8 bit (its DICOM reader): `value · 255 / largest`,
/// saturated to 8 bit, inverted for MONOCHROME1. It ignores every window and rescale the file
/// declares.
pub fn scale_by_maximum(values: &[i32], monochrome1: bool) -> Vec<u8> {
    let largest = f64::from(values.iter().copied().max().unwrap_or(0).max(1));
    values
        .iter()
        .map(|&value| {
            // `as` truncates and saturates, as the reference's cast to 8 bit does.
            let grey = (f64::from(value) * 255.0 / largest) as u8;
            if monochrome1 { 255 - grey } else { grey }
        })
        .collect()
}

/// How files become pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoding {
    /// Decode every pixel of a JPEG before averaging. Otherwise large ones are averaged while they
    /// are decoded, which is faster and within one grey level.
    pub exact: bool,
    /// How DICOM values become grey.
    pub window: dicom::Window,
}
