//! Every pixel of a JPEG file, in grey.

use super::frame::{Component, Frame};
use super::upsample::Plane;
use super::{Stop, idct, scans, square_of};
use crate::exif::segments;
use crate::{GreyImage, ImageError};

/// The meaning of the three components of a JPEG that has neither a JFIF nor an Adobe marker, nor
/// components named R, G and B.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    Ycbcr,
    Rgb,
}

/// Decodes a JPEG file in its stored orientation: the luma of colour, exactly as OpenCV computes
/// it, to the last bit.
///
/// # Errors
/// A reason, without the file's name: truncated, damaged, of a kind that is not supported, with no
/// or too many pixels.
pub fn decode(bytes: &[u8], untagged: Untagged) -> Result<GreyImage, ImageError> {
    let wanted = if has_rgb(bytes, untagged) { 3 } else { 1 };
    picture(bytes, wanted).map_err(Stop::reason)
}

/// Like [`decode`], together with the square of [`super::to_square`] if that supports the file. The
/// coefficients are read only once.
///
/// # Errors
/// As [`decode`].
pub fn decode_with_square(bytes: &[u8], side: usize) -> Result<(GreyImage, Option<Vec<u8>>), ImageError> {
    let wanted = if has_rgb(bytes, Untagged::Ycbcr) { 3 } else { 1 };
    let frame = scans::read(bytes, wanted).map_err(Stop::reason)?;
    let square = square_of(bytes, &frame, side);
    Ok((grey(&frame, wanted).map_err(Stop::reason)?, square))
}

/// Width and height in pixels that a JPEG file declares.
///
/// # Errors
/// A reason, without the file's name: damage before the size, or no size.
pub fn size(bytes: &[u8]) -> Result<[usize; 2], ImageError> {
    scans::size(bytes).map_err(Stop::reason)
}

/// Bytes of memory per pixel that decoding a JPEG file takes at most, besides the file.
pub fn memory_per_pixel(bytes: &[u8]) -> usize {
    // Coefficients of 16 bits and samples of the components that make the grey, one of these spread
    // to all pixels, and a bit per coefficient of every component (measured: RGB 9.2, others 3.1).
    if has_rgb(bytes, Untagged::Ycbcr) { 10 } else { 4 }
}

fn picture(bytes: &[u8], wanted: usize) -> Result<GreyImage, Stop> {
    grey(&scans::read(bytes, wanted)?, wanted)
}

fn grey(frame: &Frame, wanted: usize) -> Result<GreyImage, Stop> {
    let [first, others @ ..] = frame.components.get(..wanted.min(frame.components.len())).unwrap_or_default() else {
        return Err(Stop::NotServed);
    };
    let mut pixels = samples(frame, first)?;
    if let [green, blue] = others {
        let (green, blue) = (samples(frame, green)?, samples(frame, blue)?);
        for ((pixel, green), blue) in pixels.iter_mut().zip(green).zip(blue) {
            *pixel = luma(&[*pixel, green, blue]);
        }
    }
    Ok(GreyImage { width: frame.width, height: frame.height, pixels })
}

/// The samples of a component, a pixel each.
fn samples(frame: &Frame, component: &Component) -> Result<Vec<u8>, Stop> {
    let steps = component.steps.as_ref().ok_or(Stop::damaged("damaged JPEG: a table is missing"))?;
    let (width, height) = frame.samples(component);
    let mut samples = vec![0; width * height];
    for (lines, blocks) in samples.chunks_mut(8 * width).zip(component.blocks.chunks(component.stride)) {
        for (column, block) in blocks.iter().take(width.div_ceil(8)).enumerate() {
            let square = idct::samples(block, steps);
            for (line, square) in lines.chunks_mut(width).zip(square.chunks_exact(8)) {
                let line = &mut line[8 * column..];
                let visible = line.len().min(8);
                line[..visible].copy_from_slice(&square[..visible]);
            }
        }
    }
    let (horizontal, vertical) = frame.sampling();
    let factors = (horizontal / component.horizontal, vertical / component.vertical);
    if factors == (1, 1) && (width, height) == (frame.width, frame.height) {
        return Ok(samples);
    }
    if horizontal % component.horizontal != 0 || vertical % component.vertical != 0 {
        return Err(Stop::unsupported("JPEG with a fractional ratio of colour to grey pixels is not supported"));
    }
    Ok(Plane { width, height, samples }.spread(factors.0, factors.1, frame.width, frame.height))
}

/// Whether the three components of a JPEG are red, green and blue, by the rules of libjpeg, which
/// OpenCV reads with: a JFIF marker says YCbCr, an Adobe marker has its transform, else the
/// components' names decide.
fn has_rgb(bytes: &[u8], untagged: Untagged) -> bool {
    let (mut adobe, mut is_named) = (None, false);
    for (marker, segment) in segments(bytes) {
        match marker {
            0xe0 if segment.starts_with(b"JFIF\0") => return false,
            0xee if segment.starts_with(b"Adobe") => adobe = segment.get(11).copied(),
            0xc0..=0xc2 => {
                let names = [6, 9, 12].map(|at| segment.get(at).copied());
                is_named = names == [Some(b'R'), Some(b'G'), Some(b'B')] || untagged == Untagged::Rgb;
                if segment.get(5) != Some(&3) {
                    return false;
                }
            }
            _ => {}
        }
    }
    adobe.map_or(is_named, |transform| transform == 0)
}

/// Rec. 601 luma in 16-bit fixed point, as libjpeg computes it.
pub fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + (1 << 15)) >> 16) as u8
}
