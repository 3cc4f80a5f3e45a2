//! JPEG 2000 (ISO 15444-1), with a third-party decoder. Before the decoder runs, the size is
//! checked and the codestream is followed to its end, because the decoder would also return a
//! picture for truncated data.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::attributes::Format;
use super::jpeg_2000_header;
use super::pixels::{Pixels, check_frame, codes, colour};
use crate::ImageError;
use crate::jpeg::luma;

const START_OF_TILE_PART: [u8; 2] = [0xff, 0x90];
const END_OF_CODESTREAM: [u8; 2] = [0xff, 0xd9];

fn fail(what: &str) -> ImageError {
    ImageError::damaged(format!("damaged JPEG 2000: {what}"))
}

/// Decodes a codestream, or a JP2 file that contains one.
///
/// # Errors
/// A reason: another size than the format's, a truncated or damaged stream.
pub(super) fn decode(stream: &[u8], format: &Format) -> Result<Pixels, ImageError> {
    // Some writers wrap the codestream into a JP2 file. It starts with a marker for its start and
    // one for its size.
    let start = stream
        .windows(4)
        .position(|bytes| bytes == [0xff, 0x4f, 0xff, 0x51])
        .ok_or_else(|| fail("the start marker is missing"))?;
    let stream = &stream[start..];
    let size = |end, offset| Some(number32(stream, end)?.saturating_sub(number32(stream, offset)?));
    let (Some(columns), Some(rows), Some(components)) = (size(8, 16), size(12, 20), number16(stream, 40)) else {
        return Err(fail("the size marker is missing"));
    };
    check_frame(columns, rows, components, format)?;
    let stream = &stream[..end(stream, [columns, rows])?];
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let mut context = DecoderContext::default();
    let image = Image::new(stream, &settings).map_err(|error| fail(&error.to_string()))?;
    let image = image.decode(&mut context).map_err(|error| fail(&error.to_string()))?;
    let components = image.components();
    if components.len() != format.samples || components.iter().any(|part| part.samples().len() != columns * rows) {
        return Err(fail("its components differ in size from the image"));
    }
    if components.iter().any(|part| !(1..=16).contains(&part.bit_depth())) {
        return Err(fail("its components have more than 16 bits"));
    }
    Ok(match components {
        [grey] => {
            // The decoder treats every component as unsigned and shifts it up; the size segment
            // marks those that are signed.
            let precision = u32::from(grey.bit_depth());
            let shift = if stream.get(42).is_some_and(|size| size & 0x80 != 0) { 1 << (precision - 1) } else { 0 };
            // Lossy coding leaves the range of values (G.1.2 clips them back), and bits outside
            // would wrap around.
            let largest = ((1u32 << precision) - 1) as f32;
            let value = |value: f32| (value.round().clamp(0.0, largest) as i32 - shift) as u16;
            codes(format, precision, grey.samples().iter().map(|&sample| value(sample)))
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

fn number16(stream: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_be_bytes(*stream.get(at..)?.first_chunk()?).into())
}

fn number32(stream: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(*stream.get(at..)?.first_chunk()?) as usize)
}

/// The end of the codestream, including its marker. Any bytes after it are padding.
///
/// # Errors
/// A tile or the marker is missing; the picture is cut into too many parts.
pub(super) fn end(stream: &[u8], size: [usize; 2]) -> Result<usize, ImageError> {
    let truncated = |what: &str| ImageError::truncated(format!("truncated JPEG 2000: {what}"));
    let tiles = |axis: usize| {
        // Sizes of the grid and of a tile, and where both begin (A.5.1).
        let [size, tile, start] = [8, 24, 32].map(|at| number32(stream, at + 4 * axis));
        (tile? > 0).then(|| Some(size?.saturating_sub(start?).div_ceil(tile?)))?
    };
    let count = tiles(0).zip(tiles(1)).map(|(across, down)| across.saturating_mul(down));
    let count =
        count.filter(|count| (1..=65_535).contains(count)).ok_or_else(|| fail("an impossible number of tiles"))?;
    let check = |at| jpeg_2000_header::check(stream, at, size).map_err(fail);
    check(2)?;
    let mut seen = vec![false; count];
    let mut at = 2;
    loop {
        let marker = stream.get(at..).and_then(|rest| rest.first_chunk::<2>());
        match marker {
            Some(&END_OF_CODESTREAM) if seen.iter().all(|&seen| seen) => return Ok(at + 2),
            Some(&END_OF_CODESTREAM) => return Err(truncated("a tile is missing")),
            Some(&START_OF_TILE_PART) => {
                let (tile, length) = number16(stream, at + 4)
                    .zip(number32(stream, at + 6))
                    .ok_or_else(|| truncated("a tile is missing"))?;
                *seen.get_mut(tile).ok_or_else(|| fail("a tile is outside the image"))? = true;
                check(at)?;
                at = match length {
                    // The last one may go on up to the end, whatever that is.
                    0 => stream.windows(2).rposition(|pair| pair == END_OF_CODESTREAM).filter(|&end| end > at),
                    1..12 => return Err(fail("a tile has no length")),
                    length => Some(at + length),
                }
                .ok_or_else(|| truncated("the end-of-codestream marker is missing"))?;
            }
            // The segments of the main header.
            Some([0xff, _]) if !seen.contains(&true) => {
                at += 2 + number16(stream, at + 2).ok_or_else(|| truncated("the file ends in its header"))?;
            }
            Some(_) => return Err(fail("expected the start of a tile")),
            None if at > stream.len() => return Err(truncated("the data of a tile are missing")),
            None => return Err(truncated("the end-of-codestream marker is missing")),
        }
    }
}
