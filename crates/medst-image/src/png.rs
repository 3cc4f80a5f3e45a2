//! Decodes PNG files to 8-bit grey. Colour is converted as in libpng, which OpenCV uses.

use std::io::{BufRead, Cursor, Error, ErrorKind, Read, Result as IoResult, Seek, SeekFrom};

use ::png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use super::error::{MOST_PIXELS, check_size};
use super::exif::Orientation;
use super::{GreyImage, ImageError, Notes, cancel, fitting_depth};

/// Weights of red, green and blue in 1/32768 (libpng, from 0.299 and 0.587 cut to whole numbers).
const WEIGHTS: [u32; 3] = [9797, 19234, 3737];

/// A grey PNG.
///
/// * `samples`: of 8 bits, or of 16 bits in two bytes, the larger first.
///
/// # Errors
/// Samples that do not fill `width` × `height`.
pub fn encode(width: usize, height: usize, depth: BitDepth, samples: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(depth);
    encoder.set_compression(::png::Compression::Fast);
    let encoded = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(samples)?;
        writer.finish()
    });
    encoded.map_err(|error| ImageError::Samples(format!("a picture could not be encoded: {error}").into()))?;
    Ok(bytes)
}

/// Reads a PNG file.
///
/// # Errors
/// A reason, without the file's name: damaged, truncated, no or too many pixels.
pub fn decode(bytes: &[u8], notes: &mut Notes) -> Result<GreyImage, ImageError> {
    let fail = |error: DecodingError| match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::Other => ImageError::Cancelled,
        DecodingError::IoError(_) => ImageError::truncated("truncated PNG"),
        error => ImageError::damaged(format!("damaged PNG: {error}")),
    };
    let mut decoder =
        Decoder::new_with_limits(CancellableReader(Cursor::new(bytes)), Limits { bytes: MOST_PIXELS * 8 });
    // Compressed texts and colour profiles are not inflated, because a hundred kilobytes can hold a
    // gigabyte.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(fail)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let size = reader.output_buffer_size().ok_or_else(|| ImageError::damaged("damaged PNG: too many pixels"))?;
    let mut samples = vec![0; size];
    let frame = reader.next_frame(&mut samples).map_err(fail)?;
    reader.finish().map_err(fail)?;
    samples.truncate(frame.buffer_size());
    let channels = match frame.color_type {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err(ImageError::damaged("damaged PNG: its palette could not be applied")),
    };
    let info = reader.info();
    let gamma = info.srgb.map(|_| 45_455).or(info.gama_chunk.map(|gamma| gamma.into_scaled()));
    let image = match frame.bit_depth {
        BitDepth::Sixteen => {
            let grey = Grey16::new(gamma);
            let value = |pixel: &[u8]| {
                let mut words = [0; 4];
                for (word, bytes) in words.iter_mut().zip(pixel.chunks_exact(2)) {
                    *word = u16::from_be_bytes([bytes[0], bytes[1]]);
                }
                grey.of(&words[..channels])
            };
            let values: Vec<u16> = samples.chunks_exact(2 * channels).map(value).collect();
            drop(samples);
            GreyImage { width, height, pixels: to_bytes(&values, notes) }
        }
        _ if channels >= 3 => {
            let grey = Grey8::new(gamma);
            let pixels = samples.chunks_exact(channels).map(|pixel| grey.of(pixel)).collect();
            GreyImage { width, height, pixels }
        }
        _ => GreyImage::of_samples(width, height, channels, samples)?,
    };
    if image.pixels.len() != width * height {
        return Err(ImageError::damaged(format!(
            "damaged PNG: it has {} of {} pixels",
            image.pixels.len(),
            width * height
        )));
    }
    let orientation = Orientation::of_exif(reader.info().exif_metadata.as_deref().unwrap_or_default());
    Ok(orientation.apply(image))
}

/// A file that ends with an error when the picture is not wanted any more.
struct CancellableReader<'a>(Cursor<&'a [u8]>);

/// Bytes between two questions: deflated, they hold at most eight mebibytes.
const PIECE: usize = 8 << 10;

impl BufRead for CancellableReader<'_> {
    fn fill_buf(&mut self) -> IoResult<&[u8]> {
        cancel::check().map_err(Error::other)?;
        let rest = self.0.fill_buf()?;
        Ok(&rest[..rest.len().min(PIECE)])
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

impl Read for CancellableReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        self.0.read(buffer)
    }
}

impl Seek for CancellableReader<'_> {
    fn seek(&mut self, position: SeekFrom) -> IoResult<u64> {
        self.0.seek(position)
    }
}

/// The grey of an 8-bit colour without gamma.
pub(super) fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]];
    if r == g && g == b { r } else { (weighted([r, g, b].map(u32::from)) >> 15) as u8 }
}

fn weighted(colour: [u32; 3]) -> u32 {
    colour.iter().zip(WEIGHTS).map(|(sample, weight)| sample * weight).sum()
}

/// Values of 16 bits to 8: their high bytes, but where the largest shows that they have fewer bits,
/// over these.
fn to_bytes(values: &[u16], notes: &mut Notes) -> Vec<u8> {
    let largest = values.iter().copied().max().unwrap_or(0);
    let depth = fitting_depth(largest);
    if depth == 16 || largest == 0 {
        return values.iter().map(|&value| (value >> 8) as u8).collect();
    }
    notes.add("PNG: the upper of 16 bits per pixel are unused; scaled by the bits in use");
    let white = (1u32 << depth) - 1;
    values.iter().map(|&value| ((u32::from(value) * 255 + white / 2) / white) as u8).collect()
}

/// The exponents, in 1/100000, from samples to light and back, where a file's gamma is far enough
/// from 1 to matter.
fn exponents(gamma: Option<u32>) -> Option<[f64; 2]> {
    let gamma = f64::from(gamma.filter(|gamma| !(95_000..=105_000).contains(gamma) && *gamma > 0)?);
    let reciprocal = |value: f64| (1e10 / value + 0.5).floor();
    let to_light = reciprocal(gamma);
    Some([to_light, reciprocal(to_light)])
}

fn power(share: f64, exponent: f64, most: f64) -> f64 {
    (most * share.powf(exponent * 1e-5) + 0.5).floor()
}

/// Colours of 8 bits a sample to grey.
struct Grey8 {
    /// To light and back.
    tables: Option<[[u8; 256]; 2]>,
}

impl Grey8 {
    fn new(gamma: Option<u32>) -> Grey8 {
        let table = |exponent: f64| std::array::from_fn(|value| power(value as f64 / 255.0, exponent, 255.0) as u8);
        Grey8 { tables: exponents(gamma).map(|both| both.map(table)) }
    }

    fn of(&self, pixel: &[u8]) -> u8 {
        let colour = [pixel[0], pixel[1], pixel[2]];
        match &self.tables {
            Some([to_light, back]) if colour != [colour[0]; 3] => {
                let light = weighted(colour.map(|sample| u32::from(to_light[usize::from(sample)])));
                back[((light + (1 << 14)) >> 15) as usize & 255]
            }
            _ => luma(&colour),
        }
    }
}

/// Colours of 16 bits a sample to grey.
struct Grey16 {
    /// To light and back, by the upper 11 bits of a sample.
    tables: Option<[Vec<u16>; 2]>,
}

/// A grey sample of a colour picture with gamma: libpng has it rounded to 8 bits, by its upper 11.
fn rounded(sample: u16) -> u16 {
    let upper = u32::from(sample >> 5);
    let bound = |level: u32| ((level * 257 + 128) * 2047 + 32_768) / 65_535 + 1;
    let level = (upper / 8).saturating_sub(1);
    ((level..255).find(|&level| upper < bound(level)).unwrap_or(255) * 257) as u16
}

impl Grey16 {
    fn new(gamma: Option<u32>) -> Grey16 {
        let table = |exponent: f64| {
            (0..2048).map(|value| power(f64::from(value) / 2047.0, exponent, 65_535.0) as u16).collect()
        };
        Grey16 { tables: exponents(gamma).map(|both| both.map(table)) }
    }

    fn of(&self, pixel: &[u16]) -> u16 {
        let &[r, g, b, ..] = pixel else { return pixel[0] };
        if r == g && g == b {
            return if self.tables.is_some() { rounded(r) } else { r };
        }
        let round = |sum: u32| (sum + (1 << 14)) >> 15;
        match &self.tables {
            Some([to_light, back]) => {
                let light = [r, g, b].map(|sample| u32::from(to_light[usize::from(sample >> 5)]));
                back[round(weighted(light)) as usize >> 5]
            }
            None => round(weighted([r, g, b].map(u32::from))) as u16,
        }
    }
}
