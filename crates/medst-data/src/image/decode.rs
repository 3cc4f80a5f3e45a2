//! Decoding JPEG and PNG files to 8-bit grey, as OpenCV's grey reading gives it (with the
//! exceptions of docs/data.md), turned as the Exif data say. DICOM files are left to
//! [`super::dicom`]. Content decides on the format, not the file's name.

use std::borrow::Cow;
use std::path::Path;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use super::exif::{Orientation, segments};
use super::{GreyImage, Notes, dicom, jpeg, png};
use crate::{Error, Result};

/// Larger pictures are refused before memory is taken for them. The largest detectors give about 25
/// million pixels.
pub(crate) const MOST_PIXELS: usize = 200_000_000;

/// Reads a radiograph from a file.
///
/// # Errors
/// Names the file: not there, empty, truncated, of an unknown format, or with too many pixels.
pub fn read(path: &Path) -> Result<GreyImage> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    decode(&bytes).map_err(|message| Error::Image { path: path.to_path_buf(), message })
}

/// Reads a radiograph from the bytes of a JPEG, PNG or DICOM file, the last with the window that it
/// declares.
///
/// # Errors
/// A reason, without the file's name.
pub fn decode(bytes: &[u8]) -> Result<GreyImage, String> {
    decode_noting(bytes, &mut Notes::default())
}

/// As [`decode`]; adds what should be known of how the file was read.
///
/// # Errors
/// As [`decode`].
pub fn decode_noting(bytes: &[u8], notes: &mut Notes) -> Result<GreyImage, String> {
    match bytes {
        [] => Err("the file is empty".into()),
        [0xff, 0xd8, ..] => Ok(Orientation::of_jpeg(bytes).apply(decode_jpeg(bytes, Untagged::Ycbcr)?)),
        [0x89, b'P', b'N', b'G', ..] => png::decode(bytes, notes),
        _ if dicom::is_dicom(bytes) => dicom::decode_noting(bytes, dicom::Window::Declared, notes),
        _ => Err(unsupported(bytes)),
    }
}

/// Why a file of another format is not read, by the name of that format where it is known.
pub(super) fn unsupported(bytes: &[u8]) -> String {
    let name = match bytes {
        [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => "TIFF",
        [b'G', b'I', b'F', b'8', ..] => "GIF",
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => "BMP",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "WebP",
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "JPEG 2000",
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "JPEG XL",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a' | b'h' | b'm', ..] => "HEIF or AVIF",
        [b'P', b'1'..=b'6', b' ' | b'\n' | b'\r' | b'\t', ..] => "PNM",
        [b'%', b'P', b'D', b'F', ..] => "PDF",
        [0x1f, 0x8b, ..] => "gzip",
        [b'P', b'K', 3, 4, ..] => "zip",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "NumPy",
        [b'<', b'!' | b'?' | b'h' | b'H', ..] => "HTML or XML",
        _ if bytes.get(344..348).is_some_and(|magic| magic == b"n+1\0" || magic == b"ni1\0") => "NIfTI",
        _ => return "neither a JPEG, a PNG nor a DICOM file".into(),
    };
    format!("{name} files are not supported; convert it to PNG, JPEG or DICOM")
}

/// What the three components of a JPEG are where it has neither a JFIF nor an Adobe marker, nor
/// components called R, G and B.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Untagged {
    Ycbcr,
    Rgb,
}

/// The picture as it is stored.
pub(super) fn decode_jpeg(bytes: &[u8], untagged: Untagged) -> Result<GreyImage, String> {
    jpeg::check(bytes)?;
    let fail = |error: zune_jpeg::errors::DecodeErrors| format!("damaged JPEG: {error:?}");
    let limit = MOST_PIXELS.min(usize::from(u16::MAX));
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(limit).set_max_height(limit);
    let bytes = without_short_adobe(bytes);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(&*bytes), options);
    decoder.decode_headers().map_err(fail)?;
    let info = decoder.info().ok_or("damaged JPEG: it has no size")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    check_size(width, height)?;
    // The samples as they are stored; of colour only the luma, where it is one of them.
    let is_rgb = match info.components {
        1 => false,
        3 => has_rgb(&bytes, untagged),
        4 => return Err("a CMYK JPEG, which no radiograph is".into()),
        other => return Err(format!("a JPEG of {other} components; 1 (grey) and 3 (colour) are supported")),
    };
    let stored = match decoder.input_colorspace() {
        // The decoder's name for a transform of 0, whatever the number of components.
        Some(ColorSpace::RGB | ColorSpace::CMYK) if info.components == 3 => ColorSpace::RGB,
        _ if is_rgb => ColorSpace::YCbCr,
        _ => ColorSpace::Luma,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(stored));
    let pixels = decoder.decode().map_err(fail)?;
    let samples = if stored == ColorSpace::Luma { 1 } else { 3 };
    if pixels.len() != width * height * samples {
        return Err(format!("damaged JPEG: {} bytes for {width}×{height} pixels", pixels.len()));
    }
    let pixels = match samples {
        1 => pixels,
        _ if is_rgb => pixels.chunks_exact(3).map(luma).collect(),
        _ => pixels.chunks_exact(3).map(|pixel| pixel[0]).collect(),
    };
    Ok(GreyImage { width, height, pixels })
}

/// The file without an Adobe marker that is too short to have a transform, which other decoders
/// pass over.
fn without_short_adobe(bytes: &[u8]) -> Cow<'_, [u8]> {
    let short = segments(bytes).find(|(marker, data)| *marker == 0xee && data.starts_with(b"Adobe") && data.len() < 12);
    let Some((_, data)) = short else { return Cow::Borrowed(bytes) };
    // Its marker and length precede the data.
    let at = data.as_ptr() as usize - bytes.as_ptr() as usize;
    Cow::Owned([&bytes[..at - 4], &bytes[at + data.len()..]].concat())
}

/// Whether the three components of a JPEG are red, green and blue, by the rules of libjpeg, which
/// OpenCV reads with: a JFIF marker says YCbCr, an Adobe marker has its transform, else the
/// components' names decide.
fn has_rgb(bytes: &[u8], untagged: Untagged) -> bool {
    let mut adobe = None;
    for (marker, segment) in segments(bytes) {
        match marker {
            0xe0 if segment.starts_with(b"JFIF\0") => return false,
            0xee if segment.starts_with(b"Adobe") => adobe = segment.get(11).copied(),
            0xc0..=0xc2 if adobe.is_none() => {
                let names = [6, 9, 12].map(|at| segment.get(at).copied());
                return names == [Some(b'R'), Some(b'G'), Some(b'B')] || untagged == Untagged::Rgb;
            }
            _ => {}
        }
    }
    adobe == Some(0)
}

/// Rec. 601 luma in 16-bit fixed point, as libjpeg computes it.
pub(super) fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + (1 << 15)) >> 16) as u8
}

pub(super) fn check_size(width: usize, height: usize) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("it has no pixels ({width}×{height})"));
    }
    if width.saturating_mul(height) > MOST_PIXELS {
        return Err(format!("{width}×{height} pixels are more than the {MOST_PIXELS} that are read"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::png::{BitDepth, ColorType};
    use proptest::prelude::*;

    fn png_bytes(color: ColorType, depth: BitDepth, width: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut bytes, width, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn every_kind_of_png_gives_its_grey_values() {
        let grey = |color, depth, width, data: &[u8]| decode(&png_bytes(color, depth, width, data)).unwrap().pixels;
        assert_eq!(grey(ColorType::Grayscale, BitDepth::Eight, 3, &[0, 7, 255]), [0, 7, 255]);
        assert_eq!(grey(ColorType::Grayscale, BitDepth::Sixteen, 2, &[0x12, 0xff, 0xfe, 0]), [0x12, 0xfe]);
        assert_eq!(grey(ColorType::Grayscale, BitDepth::One, 2, &[0b0100_0000]), [0, 255]);
        assert_eq!(grey(ColorType::GrayscaleAlpha, BitDepth::Eight, 2, &[9, 0, 200, 255]), [9, 200]);
        assert_eq!(grey(ColorType::Rgb, BitDepth::Eight, 3, &[255, 0, 0, 0, 255, 0, 0, 0, 255]), [76, 149, 29]);
        assert_eq!(grey(ColorType::Rgba, BitDepth::Eight, 1, &[100, 100, 100, 3]), [100]);
    }

    #[test]
    fn damaged_files_are_refused_with_a_reason() {
        let whole = png_bytes(ColorType::Grayscale, BitDepth::Eight, 200, &[90; 200]);
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (b"GIF89a", "GIF files are not supported"),
            (b"II*\0\x08\0\0\0", "TIFF files are not supported"),
            (b"no picture", "neither"),
            (&whole[..whole.len() - 20], "PNG"),
            (&[0xff, 0xd8, 0xff, 0xe0], "truncated JPEG"),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_picture_bomb_is_refused_before_memory_is_taken() {
        let mut bytes = png_bytes(ColorType::Grayscale, BitDepth::Eight, 4, &[1; 4]);
        // Width and height stand at 16…24, their checksum at 29…33.
        bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let checksum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = decode(&bytes).unwrap_err();
        assert!(error.contains("more than the"), "{error}");
    }

    /// PNG's checksum, bit by bit.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(start in 0usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let signatures: [&[u8]; 3] = [&[], &[0xff, 0xd8, 0xff, 0xe0], &[0x89, b'P', b'N', b'G', 13, 10, 26, 10]];
            let _ = decode(&[signatures[start], &bytes].concat());
        }
    }
}
