//! The stored pixels of a DICOM object, in any supported coding.

use dicom_core::VR;
use dicom_dictionary_std::tags;

use super::attributes::Format;
use super::dataset::{DataSet, Element};
use super::jpeg_stream::{FRAME_LOSSLESS, FRAME_LS, Frame};
use super::{jpeg_2000, jpeg_lossless, jpeg_ls, rle};
use crate::error::check_size;
use crate::jpeg::{self, Untagged, luma};
use crate::{ImageError, Notes};

/// How pixels are coded: the transfer syntaxes that are read, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Native,
    Rle,
    Jpeg,
    JpegLossless,
    JpegLs,
    Jpeg2000,
}

impl Coding {
    /// The coding of a transfer syntax; native if there is none. The error names an unsupported
    /// one.
    pub fn of(transfer_syntax: Option<&str>) -> Result<Coding, ImageError> {
        let Some(uid) = transfer_syntax else { return Ok(Coding::Native) };
        let name = match uid.strip_prefix("1.2.840.10008.1.2").unwrap_or("unknown") {
            "" | ".1" | ".1.99" | ".2" => return Ok(Coding::Native),
            ".5" => return Ok(Coding::Rle),
            ".4.50" | ".4.51" => return Ok(Coding::Jpeg),
            ".4.57" | ".4.70" => return Ok(Coding::JpegLossless),
            ".4.80" | ".4.81" => return Ok(Coding::JpegLs),
            ".4.90" | ".4.91" => return Ok(Coding::Jpeg2000),
            ".4.110" | ".4.111" | ".4.112" => "JPEG XL",
            ".4.201" | ".4.202" | ".4.203" => "High-Throughput JPEG 2000",
            video if video.starts_with(".4.10") => "video",
            _ => "unknown",
        };
        Err(ImageError::unsupported(format!("unsupported transfer syntax {uid} ({name})")))
    }

    /// The coding that the first markers of a compressed frame indicate, if they do.
    fn of_frame(frame: &[u8]) -> Option<Coding> {
        match frame {
            [0xff, 0xd8, ..] => match Frame::of(frame)?.marker {
                0xc0..=0xc2 => Some(Coding::Jpeg),
                FRAME_LOSSLESS => Some(Coding::JpegLossless),
                FRAME_LS => Some(Coding::JpegLs),
                _ => None,
            },
            [0xff, 0x4f, 0xff, 0x51, ..] | [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => Some(Coding::Jpeg2000),
            _ => None,
        }
    }
}

/// Pixels in the form that the file stores.
pub(super) enum Pixels {
    /// The stored bits of grey values, which [`Format::value`] turns into numbers.
    Codes(Vec<u16>),
    /// The luma of colour.
    Luma(Vec<u8>),
}

/// The element of the pixels.
///
/// # Errors
/// A reason: there are none, or they are of another kind.
pub(super) fn element<'a, 'b>(set: &'b DataSet<'a>) -> Result<&'b Element<'a>, ImageError> {
    let is_float = || set.get(tags::FLOAT_PIXEL_DATA).or(set.get(tags::DOUBLE_FLOAT_PIXEL_DATA)).is_some();
    set.get(tags::PIXEL_DATA).ok_or_else(|| match is_float() {
        true => ImageError::unsupported("its pixels are floating-point numbers, which are not supported"),
        false => ImageError::damaged("it has no pixel data"),
    })
}

/// Reads the pixels of an element.
///
/// # Errors
/// A reason: a transfer syntax that contradicts them, damaged pixels.
pub(super) fn read(
    element: &Element,
    format: &Format,
    coding: Coding,
    notes: &mut Notes,
) -> Result<Pixels, ImageError> {
    if element.undefined != (coding != Coding::Native) {
        let reason = match element.undefined {
            true => "its pixels are compressed, but its transfer syntax is an uncompressed one",
            false => "its pixels are not compressed, but its transfer syntax is a compressed one",
        };
        return Err(ImageError::damaged(reason));
    }
    if coding == Coding::Native {
        return native(format, element);
    }
    let mut frame = Vec::with_capacity(fragments(element).map(<[u8]>::len).sum());
    fragments(element).for_each(|fragment| frame.extend_from_slice(fragment));
    let shown = Coding::of_frame(&frame).unwrap_or(coding);
    if shown != coding {
        notes.add("DICOM: pixels compressed differently than the transfer syntax states; decoded by their own header");
    }
    let coding = shown;
    match coding {
        Coding::Native => unreachable!("returned above"),
        Coding::Rle => {
            let bytes = format.allocated as usize / 8;
            let planes = rle::decode(&frame, format.samples * bytes, format.count())?;
            match planes.as_slice() {
                [grey] => Ok(codes(format, format.allocated, grey.iter().map(|&byte| u16::from(byte)))),
                [high, low] => {
                    let words = high.iter().zip(low).map(|(&high, &low)| u16::from_be_bytes([high, low]));
                    Ok(codes(format, format.allocated, words))
                }
                planes => Ok(colour(format, |pixel| [0, 1, 2].map(|sample| planes[sample][pixel]))),
            }
        }
        Coding::Jpeg => {
            let precision = jpeg_frame(&frame, format)?.precision;
            if precision != 8 {
                return Err(ImageError::unsupported(format!(
                    "{precision}-bit lossy JPEG is not supported (only 8-bit is)"
                )));
            }
            let untagged = if format.photometric == "RGB" { Untagged::Rgb } else { Untagged::Ycbcr };
            let image = jpeg::decode(&frame, untagged)?;
            Ok(match format.samples {
                1 => codes(format, 8, image.pixels.into_iter().map(u16::from)),
                _ => Pixels::Luma(image.pixels),
            })
        }
        Coding::JpegLossless | Coding::JpegLs => {
            let header = jpeg_frame(&frame, format)?;
            let decode = if coding == Coding::JpegLs { jpeg_ls::decode } else { jpeg_lossless::decode };
            Ok(codes(format, header.precision, decode(&frame, header)?.into_iter()))
        }
        Coding::Jpeg2000 => jpeg_2000::decode(&frame, format),
    }
}

/// The fragments of a compressed frame.
fn fragments<'a>(element: &Element<'a>) -> impl Iterator<Item = &'a [u8]> {
    // The first item is the table of offsets, which some writers leave out.
    let has_table = element.items().next().is_some_and(|item| Coding::of_frame(item).is_none());
    element.items().skip(usize::from(has_table))
}

/// Bytes of memory per pixel that [`read`] takes at most for compressed pixels, and what follows it
/// for grey values.
pub(super) fn memory_per_pixel(element: &Element, format: &Format, coding: Coding) -> usize {
    let start: Vec<u8> = fragments(element).flatten().copied().take(12).collect();
    if coding == Coding::Jpeg2000 || Coding::of_frame(&start) == Some(Coding::Jpeg2000) {
        // Coefficients and samples of 32 bits, parts of the picture and grey values (measured: 17.4
        // of one component).
        return 22 * format.samples;
    }
    // Among the colour codings JPEG needs the most; see `jpeg::memory_per_pixel`.
    if format.samples == 3 { 10 } else { 8 }
}

fn native(format: &Format, element: &Element) -> Result<Pixels, ImageError> {
    let (count, expected) = (format.count(), format.bytes());
    let found = element.value.len();
    let bytes = element
        .value
        .get(..expected)
        .ok_or_else(|| ImageError::truncated(format!("truncated: {found} bytes of pixels, expected {expected}")))?;
    let big_endian = element.encoding.big_endian;
    if format.allocated == 16 {
        let word = |bytes: &[u8]| match big_endian {
            true => u16::from_be_bytes([bytes[0], bytes[1]]),
            false => u16::from_le_bytes([bytes[0], bytes[1]]),
        };
        return Ok(codes(format, 16, bytes.chunks_exact(2).map(word)));
    }
    // Bytes that are written as big-endian words are swapped (PS3.5, 8.1.2).
    let swapped: Vec<u8>;
    let bytes = if big_endian && element.vr == VR::OW {
        let pairs = element.value.chunks_exact(2);
        swapped = pairs.flat_map(|pair| [pair[1], pair[0]]).collect();
        swapped
            .get(..expected)
            .ok_or_else(|| ImageError::truncated("truncated: an odd number of bytes of 16-bit pixels"))?
    } else {
        bytes
    };
    Ok(if format.is_halved() {
        Pixels::Luma(bytes.chunks(4).flat_map(|pair| pair.iter().take(2)).copied().take(count).collect())
    } else if format.samples == 3 {
        let (pixel_step, sample_step) = if format.planar { (1, count) } else { (3, 1) };
        colour(format, |pixel| [0, 1, 2].map(|sample| bytes[pixel * pixel_step + sample * sample_step]))
    } else {
        codes(format, 8, bytes.iter().map(|&byte| u16::from(byte)))
    })
}

/// The stored bits of words of `precision` bits. Bits above them (overlays) or below are masked
/// off. In a coded frame the stored bits may be the only ones, regardless of HighBit.
pub(super) fn codes(format: &Format, precision: u32, words: impl Iterator<Item = u16>) -> Pixels {
    let shift = if precision <= format.stored { 0 } else { format.high + 1 - format.stored };
    let mask = u16::MAX >> (16 - format.stored);
    Pixels::Codes(words.map(|word| (word >> shift) & mask).collect())
}

/// The luma of pixels of three samples; of YBR colours it is the first.
pub(super) fn colour(format: &Format, pixel: impl Fn(usize) -> [u8; 3]) -> Pixels {
    let rgb = format.photometric == "RGB";
    let grey = |samples: [u8; 3]| if rgb { luma(&samples) } else { samples[0] };
    Pixels::Luma((0..format.count()).map(|index| grey(pixel(index))).collect())
}

fn jpeg_frame(stream: &[u8], format: &Format) -> Result<Frame, ImageError> {
    let frame = Frame::of(stream).ok_or_else(|| ImageError::damaged("damaged JPEG: it has no frame"))?;
    check_frame(frame.columns, frame.rows, frame.components, format)?;
    Ok(frame)
}

/// Checks the size in the coded frame itself, by which the decoder allocates.
pub(super) fn check_frame(columns: usize, rows: usize, components: usize, format: &Format) -> Result<(), ImageError> {
    check_size(columns, rows)?;
    if (columns, rows, components) != (format.columns, format.rows, format.samples) {
        return Err(ImageError::damaged(format!(
            "its coded frame has {columns}×{rows} pixels of {components} samples, but Columns, Rows and SamplesPerPixel \
             state {}×{} of {}",
            format.columns, format.rows, format.samples
        )));
    }
    Ok(())
}
