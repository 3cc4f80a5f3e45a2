//! JPEG files of 8 bits, sequential and progressive: every pixel (`decode`), or straight to the
//! square that a corpus stores ([`to_square`]), within one grey level of the other way.
//!
//! Only the luma is decoded, to the last bit as OpenCV (libjpeg) has it. Files of which anything is
//! missing are refused.
//!
//! The square: area averaging is linear, and so is the inverse cosine transform, so what a block of
//! 8×8 pixels adds to the few output cells that it overlaps follows from its coefficients directly,
//! without the pixels. Only where a pixel might leave 0…255 are the pixels of a block computed,
//! because a decoder clamps them. So nearly all of the time goes into the entropy code, of which
//! radiographs of 3,000 pixels have megabytes. It serves baseline files; others, and those that
//! shrink little or not at all, are decoded first.
//!
//! | file | what |
//! |---|---|
//! | `huffman` | code tables, bits, coefficients of a block |
//! | `header` | what precedes the entropy-coded data of a file for the square |
//! | `average` | coefficients to output cells |
//! | `scans`, `frame`, `band` | markers, components and scans of any file, checked to its end |
//! | `idct` | coefficients to samples |
//! | `picture`, `upsample` | samples to grey |

mod average;
mod band;
mod frame;
mod header;
mod huffman;
mod idct;
mod picture;
mod scans;
mod upsample;

use std::borrow::Cow;

use self::average::Averages;
use self::frame::Frame;
use self::header::{Header, parse};
use self::huffman::{Bits, ZIGZAG};
use super::exif::Orientation;
use super::{GreyImage, cancel};
use crate::ImageError;

pub(super) use picture::{Untagged, decode, decode_with_square, luma, memory_per_pixel, size};

/// Why a file gives no square.
#[derive(Debug)]
enum Stop {
    /// The file is not one that this path serves.
    NotServed,
    /// Damaged, or of a kind that is not supported.
    Refused(ImageError),
}

impl Stop {
    const fn damaged(what: &'static str) -> Stop {
        Stop::Refused(ImageError::Damaged(Cow::Borrowed(what)))
    }

    const fn truncated(what: &'static str) -> Stop {
        Stop::Refused(ImageError::Truncated(Cow::Borrowed(what)))
    }

    const fn unsupported(what: &'static str) -> Stop {
        Stop::Refused(ImageError::Unsupported(Cow::Borrowed(what)))
    }

    fn reason(self) -> ImageError {
        match self {
            Stop::NotServed => ImageError::damaged("damaged JPEG"),
            Stop::Refused(reason) => reason,
        }
    }
}

/// Decodes a JPEG file into a `side`×`side` square, as `decode` and `to_square` do one after the
/// other.
///
/// `None` when this path does not serve the file, or cannot read it: the full decoder reports what
/// is damaged, so that both ways refuse the same files for the same reasons.
pub fn to_square(bytes: &[u8], side: usize) -> Option<Vec<u8>> {
    square(bytes, side).ok()
}

fn square(bytes: &[u8], side: usize) -> Result<Vec<u8>, Stop> {
    let header = parse(bytes)?;
    let mut averages = Averages::new(header.width, header.height, side).ok_or(Stop::NotServed)?;
    let end = run(bytes, &header, &mut averages)?;
    check_end(&bytes[end..])?;
    let square = GreyImage { width: side, height: side, pixels: averages.square() };
    Ok(Orientation::of_jpeg(bytes).apply(square).pixels)
}

/// The square of [`to_square`] from the coefficients of a frame that was read whole, where that
/// serves the file.
fn square_of(bytes: &[u8], frame: &Frame, side: usize) -> Option<Vec<u8>> {
    let header = parse(bytes).ok().filter(|_| frame.scans == 1)?;
    let mut averages = Averages::new(header.width, header.height, side)?;
    let (sampling, luma) = (header.components.first()?, frame.components.first()?);
    let steps = luma.steps.as_ref()?;
    let mut block = [0f32; 64];
    // In the order of the file, as sums of floats depend on it.
    for mcu in 0..header.mcu_rows * header.mcu_columns {
        let (mcu_row, mcu_column) = (mcu / header.mcu_columns, mcu % header.mcu_columns);
        for vertical in 0..sampling.vertical {
            for horizontal in 0..sampling.horizontal {
                let row = mcu_row * sampling.vertical + vertical;
                let column = mcu_column * sampling.horizontal + horizontal;
                let coefficients = luma.blocks.get(row * luma.stride + column)?;
                for ((value, &coefficient), &step) in block.iter_mut().zip(coefficients).zip(steps) {
                    *value = f32::from(coefficient) * f32::from(step);
                }
                let energy = ZIGZAG[1..64].iter().map(|&position| block[usize::from(position)].abs()).sum();
                block[0] += 1024.0;
                averages.add(&block, energy, row, column);
            }
        }
    }
    let square = GreyImage { width: side, height: side, pixels: averages.square() };
    Some(Orientation::of_jpeg(bytes).apply(square).pixels)
}

/// Decodes the scan with the best instructions that the processor has; returns where its data end.
fn run(bytes: &[u8], header: &Header, averages: &mut Averages) -> Result<usize, Stop> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2") {
        // SAFETY: the features were just detected.
        return unsafe { scan_avx2(bytes, header, averages) };
    }
    scan(bytes, header, averages)
}

/// [`scan`], compiled for processors since 2013.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt")]
fn scan_avx2(bytes: &[u8], header: &Header, averages: &mut Averages) -> Result<usize, Stop> {
    scan(bytes, header, averages)
}

#[inline(always)]
fn scan(bytes: &[u8], header: &Header, averages: &mut Averages) -> Result<usize, Stop> {
    let mut bits = Bits::new(bytes, header.data);
    let mut predictions = [0i32; 3];
    let mut until_restart = header.restart_interval;
    let mut restarts = 0u8;
    let (luma, chroma) = header.components.split_first().ok_or(Stop::NotServed)?;
    let mut block = [0f32; 64];
    for mcu_row in 0..header.mcu_rows {
        cancel::check().map_err(Stop::Refused)?;
        for mcu_column in 0..header.mcu_columns {
            if header.restart_interval > 0 {
                if until_restart == 0 {
                    bits.restart(restarts)?;
                    restarts = (restarts + 1) & 7;
                    predictions = [0; 3];
                    until_restart = header.restart_interval;
                }
                until_restart -= 1;
            }
            for vertical in 0..luma.vertical {
                for horizontal in 0..luma.horizontal {
                    let energy = luma.tables.block(&mut bits, &mut predictions[0], &mut block)?;
                    let row = mcu_row * luma.vertical + vertical;
                    let column = mcu_column * luma.horizontal + horizontal;
                    averages.add(&block, energy, row, column);
                }
            }
            for (component, prediction) in chroma.iter().zip(&mut predictions[1..]) {
                for _ in 0..component.horizontal * component.vertical {
                    component.tables.skip(&mut bits, prediction)?;
                }
            }
            bits.check()?;
        }
    }
    bits.end()
}

/// An end-of-image marker must follow the data; another scan is left to the full decoder.
fn check_end(rest: &[u8]) -> Result<(), Stop> {
    let marker = rest.windows(2).find(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7));
    if matches!(marker, Some([_, 0xd9])) { Ok(()) } else { Err(Stop::NotServed) }
}
