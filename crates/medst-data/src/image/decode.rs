//! Decoding JPEG and PNG files to 8-bit grey, as OpenCV's grey reading gives it: the luma channel of colour JPEGs, the high
//! byte of 16-bit PNGs, alpha ignored, turned as the Exif data say. DICOM files by [`super::dicom`]. The format is told by content, not by the file's name.

use std::io::Cursor;
use std::path::Path;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use super::exif::Orientation;
use super::{GreyImage, dicom};
use crate::{Error, Result};

/// Larger pictures are refused before memory is taken for them. The largest detectors give about 25 million pixels.
pub(crate) const MOST_PIXELS: usize = 200_000_000;

/// Reads a radiograph from a file.
///
/// # Errors
/// Names the file: not there, empty, truncated, of an unknown format, or with too many pixels.
pub fn read(path: &Path) -> Result<GreyImage> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    decode(&bytes).map_err(|message| Error::Image { path: path.to_path_buf(), message })
}

/// Reads a radiograph from the bytes of a JPEG, PNG or DICOM file, the last with the window that it declares.
///
/// # Errors
/// A reason, without the file's name.
pub fn decode(bytes: &[u8]) -> Result<GreyImage, String> {
    match bytes {
        [] => Err("the file is empty".into()),
        [0xff, 0xd8, ..] => Ok(Orientation::of_jpeg(bytes).apply(decode_jpeg(bytes)?)),
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
        _ if dicom::is_dicom(bytes) => dicom::decode(bytes, dicom::Window::Declared),
        _ => Err("neither a JPEG, a PNG nor a DICOM file".into()),
    }
}

/// The picture as it is stored.
pub(super) fn decode_jpeg(bytes: &[u8]) -> Result<GreyImage, String> {
    if !jpeg_is_complete(bytes) {
        return Err("truncated JPEG: the end-of-image marker is missing".into());
    }
    super::jpeg::scans::check(bytes)?;
    let fail = |error: zune_jpeg::errors::DecodeErrors| format!("damaged JPEG: {error:?}");
    let limit = MOST_PIXELS.min(usize::from(u16::MAX));
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(limit)
        .set_max_height(limit)
        .jpeg_set_out_colorspace(ColorSpace::Luma);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(fail)?;
    let (width, height) = decoder.dimensions().ok_or("damaged JPEG: it has no size")?;
    check_size(width, height)?;
    if decoder.input_colorspace().is_some_and(|space| matches!(space, ColorSpace::CMYK | ColorSpace::YCCK)) {
        return Err("a CMYK JPEG is no radiograph".into());
    }
    let pixels = decoder.decode().map_err(fail)?;
    if pixels.len() != width * height {
        return Err(format!("damaged JPEG: {} bytes for {width}×{height} pixels", pixels.len()));
    }
    Ok(GreyImage { width, height, pixels })
}

/// Whether an end-of-image marker follows the start of the scan. Decoders fill what a truncated file lacks with grey, which
/// must not pass for a radiograph.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4).and_then(|header| header.first_chunk::<4>()) {
        if marker == 0xff {
            at += 1; // fill byte
            continue;
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            // In entropy-coded data 0xff is always followed by 0 or a restart marker.
            return bytes.get(at..).is_some_and(|scan| scan.windows(2).rev().any(|pair| pair == [0xff, 0xd9]));
        }
    }
    false
}

fn decode_png(bytes: &[u8]) -> Result<GreyImage, String> {
    let fail = |error: png::DecodingError| match error {
        png::DecodingError::IoError(_) => "truncated PNG".to_string(),
        error => format!("damaged PNG: {error}"),
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: MOST_PIXELS * 8 });
    // What is packed in texts and colour profiles is not unpacked: a hundred kilobytes can hold a gigabyte.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(fail)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let size = reader.output_buffer_size().ok_or("damaged PNG: too many pixels")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(fail)?;
    reader.finish().map_err(fail)?;
    pixels.truncate(frame.buffer_size());
    let channels = match frame.color_type {
        png::ColorType::Grayscale => 1,
        png::ColorType::GrayscaleAlpha => 2,
        png::ColorType::Rgb => 3,
        png::ColorType::Rgba => 4,
        png::ColorType::Indexed => return Err("damaged PNG: its palette could not be applied".into()),
    };
    let orientation = Orientation::of_exif(reader.info().exif_metadata.as_deref().unwrap_or_default());
    Ok(orientation.apply(GreyImage::of_samples(width, height, channels, pixels)?))
}

/// Rec. 601 luma in 14-bit fixed point, as OpenCV's colour conversion computes it.
pub(super) fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((r * 4899 + g * 9617 + b * 1868 + (1 << 13)) >> 14) as u8
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
    use png::{BitDepth, ColorType};
    use proptest::prelude::*;

    fn png_bytes(color: ColorType, depth: BitDepth, width: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, 1);
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
        assert_eq!(grey(ColorType::Rgb, BitDepth::Eight, 3, &[255, 0, 0, 0, 255, 0, 0, 0, 255]), [76, 150, 29]);
        assert_eq!(grey(ColorType::Rgba, BitDepth::Eight, 1, &[100, 100, 100, 3]), [100]);
    }

    #[test]
    fn damaged_files_are_refused_with_a_reason() {
        let whole = png_bytes(ColorType::Grayscale, BitDepth::Eight, 200, &[90; 200]);
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (b"GIF89a", "neither"),
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
