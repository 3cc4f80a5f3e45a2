//! The stored pixels of a DICOM object, whatever they are coded by.

use dicom_core::value::Value;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use hayro_jpeg2000::{self as jpeg2000, DecodeSettings, DecoderContext};

use super::attributes::Format;
use super::jpeg_stream::Frame;
use super::{jpeg_2000_header, jpeg_lossless, jpeg_ls, rle};
use crate::image::decode::{check_size, decode_jpeg, luma};

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
    /// Of a transfer syntax; an error names one that is not read.
    pub fn of(transfer_syntax: &str) -> Result<Coding, String> {
        let uid = transfer_syntax.trim_matches(|c: char| c.is_whitespace() || c == '\0');
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
        Err(format!("transfer syntax {uid} ({name}) is not read"))
    }
}

/// Pixels as they are stored.
pub(super) enum Pixels {
    /// The stored bits of grey values, which [`Format::value`] turns into numbers.
    Codes(Vec<u16>),
    /// The luma of colour.
    Luma(Vec<u8>),
}

pub(super) fn read(object: &InMemDicomObject, format: &Format, coding: Coding) -> Result<Pixels, String> {
    let element = object.get(tags::PIXEL_DATA).ok_or("it has no pixel data")?;
    let frame = match (element.value(), coding) {
        (Value::Primitive(value), Coding::Native) => return native(format, &value.to_bytes()),
        (Value::PixelSequence(sequence), coding) if coding != Coding::Native => sequence.fragments().concat(),
        _ => return Err("damaged DICOM: its pixel data is not coded as its transfer syntax says".into()),
    };
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
                return Err(format!("lossy JPEG of {precision} bit is not read, of 8 bit it is"));
            }
            let image = decode_jpeg(&frame)?;
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
        Coding::Jpeg2000 => jpeg_2000(&frame, format),
    }
}

fn native(format: &Format, bytes: &[u8]) -> Result<Pixels, String> {
    let count = format.count();
    // Colour at half resolution: two lumas, then the two colours that they share.
    let halved = format.photometric == "YBR_FULL_422";
    let expected = if halved { count * 2 } else { count * format.samples * format.allocated as usize / 8 };
    let bytes = bytes
        .get(..expected)
        .ok_or_else(|| format!("truncated: {} bytes of pixels where {expected} were expected", bytes.len()))?;
    Ok(if halved {
        Pixels::Luma(bytes.chunks(4).flat_map(|pair| pair.iter().take(2)).copied().take(count).collect())
    } else if format.samples == 3 {
        let (pixel_step, sample_step) = if format.planar { (1, count) } else { (3, 1) };
        colour(format, |pixel| [0, 1, 2].map(|sample| bytes[pixel * pixel_step + sample * sample_step]))
    } else if format.allocated == 8 {
        codes(format, 8, bytes.iter().map(|&byte| u16::from(byte)))
    } else {
        codes(format, 16, bytes.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]])))
    })
}

/// The stored bits of words of `precision` bits; what lies above them (overlays) or below is masked off. A coded frame may
/// hold the stored bits alone, whatever the position of the highest.
fn codes(format: &Format, precision: u32, words: impl Iterator<Item = u16>) -> Pixels {
    let shift = if precision <= format.stored { 0 } else { format.high + 1 - format.stored };
    let mask = u16::MAX >> (16 - format.stored);
    Pixels::Codes(words.map(|word| (word >> shift) & mask).collect())
}

/// The luma of pixels of three samples; of YBR colours it is the first.
fn colour(format: &Format, pixel: impl Fn(usize) -> [u8; 3]) -> Pixels {
    let rgb = format.photometric == "RGB";
    let grey = |samples: [u8; 3]| if rgb { luma(&samples) } else { samples[0] };
    Pixels::Luma((0..format.count()).map(|index| grey(pixel(index))).collect())
}

fn jpeg_frame(stream: &[u8], format: &Format) -> Result<Frame, String> {
    let frame = Frame::of(stream).ok_or("damaged JPEG: it has no frame")?;
    check_frame(frame.columns, frame.rows, frame.components, format)?;
    Ok(frame)
}

/// A decoder allocates by what the frame itself says.
fn check_frame(columns: usize, rows: usize, components: usize, format: &Format) -> Result<(), String> {
    check_size(columns, rows)?;
    if (columns, rows, components) != (format.columns, format.rows, format.samples) {
        return Err(format!(
            "its coded frame has {columns}×{rows} pixels of {components} samples, but Columns, Rows and SamplesPerPixel \
             say {}×{} of {}",
            format.columns, format.rows, format.samples
        ));
    }
    Ok(())
}

/// Components of the JPEG 2000 codestream in a file.
pub(super) fn jpeg_2000_components(bytes: &[u8]) -> Option<usize> {
    let start = bytes.windows(4).position(|window| window == [0xff, 0x4f, 0xff, 0x51])?;
    Some(u16::from_be_bytes(*bytes.get(start + 40..)?.first_chunk()?).into())
}

fn jpeg_2000(stream: &[u8], format: &Format) -> Result<Pixels, String> {
    let fail = |what: &str| format!("damaged JPEG 2000: {what}");
    // Some writers wrap the codestream into a JP2 file. It starts with a marker for its start and one for its size.
    let start =
        stream.windows(4).position(|bytes| bytes == [0xff, 0x4f, 0xff, 0x51]).ok_or_else(|| fail("no start"))?;
    let stream = &stream[start..];
    let number = |at: usize| Some(u32::from_be_bytes(*stream.get(at..)?.first_chunk()?) as usize);
    let size = |end, offset| Some(number(end)?.saturating_sub(number(offset)?));
    let components = stream.get(40..42).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    let (Some(columns), Some(rows), Some(components)) = (size(8, 16), size(12, 20), components) else {
        return Err(fail("no size"));
    };
    check_frame(columns, rows, components, format)?;
    // Besides the strict mode below, since its checks end with the last packet.
    let end = stream.iter().rposition(|&byte| byte != 0).unwrap_or(0);
    if !stream[..=end].ends_with(&[0xff, 0xd9]) {
        return Err("truncated JPEG 2000: the end-of-codestream marker is missing".into());
    }
    jpeg_2000_header::check(stream, columns, rows).map_err(fail)?;
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let mut context = DecoderContext::default();
    let image = jpeg2000::Image::new(stream, &settings).map_err(|error| fail(&error.to_string()))?;
    let image = image.decode(&mut context).map_err(|error| fail(&error.to_string()))?;
    let components = image.components();
    if components.len() != format.samples || components.iter().any(|part| part.samples().len() != columns * rows) {
        return Err(fail("its components are not of the picture's size"));
    }
    if components.iter().any(|part| !(1..=16).contains(&part.bit_depth())) {
        return Err(fail("its components have more than 16 bits"));
    }
    Ok(match components {
        [grey] => {
            // The decoder takes every component for unsigned and shifts it up; the size segment tells which are signed.
            let precision = u32::from(grey.bit_depth());
            let shift = if stream.get(42).is_some_and(|size| size & 0x80 != 0) { 1 << (precision - 1) } else { 0 };
            codes(format, precision, grey.samples().iter().map(|&value| (value.round() as i32 - shift) as u16))
        }
        samples => {
            let samples: Vec<&[f32]> = samples.iter().map(|sample| sample.samples()).collect();
            let pixel = |index: usize| [0, 1, 2].map(|sample| samples[sample][index].round().clamp(0.0, 255.0) as u8);
            // The decoder has undone the colour transformations of JPEG 2000 itself.
            if format.photometric == "YBR_FULL" {
                colour(format, pixel)
            } else {
                Pixels::Luma((0..format.count()).map(|index| luma(&pixel(index))).collect())
            }
        }
    })
}
