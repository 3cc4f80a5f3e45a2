//! Radiographs: [`decode`] a file, [`resize`] it to the stored square, [`crop`] it for the model.

pub mod crop;
pub mod decode;
pub mod dicom;
mod exif;
pub mod jpeg;
pub mod load;
pub mod resize;
pub mod size;

use serde::{Deserialize, Serialize};

/// An 8-bit grey picture, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GreyImage {
    pub width: usize,
    pub height: usize,
    /// `width · height` values, 0 is black.
    pub pixels: Vec<u8>,
}

/// The reference's rule for pictures deeper than 8 bit (its DICOM reader): `value · 255 / largest`, saturated to 8 bit, inverted
/// for MONOCHROME1. It ignores every window and rescale the file declares.
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
    /// Decode every pixel of a JPEG before averaging. Otherwise large ones are averaged while they are decoded, which is
    /// faster and within one grey level.
    pub exact: bool,
    /// How DICOM values become grey.
    pub window: dicom::Window,
}
