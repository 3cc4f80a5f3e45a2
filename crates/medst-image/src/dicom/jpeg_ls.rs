//! JPEG-LS of one component, lossless and near-lossless (ISO 14495-1).
//!
//! Implemented here because the bindings to CharLS, which dicom-rs offers, build C++ with cmake,
//! and a checkout should build with cargo alone.

use super::bits::{Bits, Stuffing};
use super::jpeg_stream::{FRAME_LS, Frame, PRESET_LS, RESTART_INTERVAL, START_OF_SCAN, segments};
use crate::{ImageError, cancel};

/// Decodes a stream whose frame (size already checked) is `frame`.
pub(super) fn decode(stream: &[u8], frame: Frame) -> Result<Vec<u16>, ImageError> {
    if frame.marker != FRAME_LS || frame.components != 1 || !(2..=16).contains(&frame.precision) {
        let Frame { marker, precision, components, .. } = frame;
        return Err(ImageError::unsupported(format!(
            "unsupported JPEG process {marker:#x} with {components} components of {precision} bits (only JPEG-LS \
             grey is supported)"
        )));
    }
    let mut preset = [0i32; 5];
    for segment in segments(stream) {
        match (segment.marker, segment.data) {
            (PRESET_LS, [1, values @ ..]) if values.len() == 10 => {
                for (preset, value) in preset.iter_mut().zip(values.chunks_exact(2)) {
                    *preset = i32::from(u16::from_be_bytes([value[0], value[1]]));
                }
            }
            (PRESET_LS, _) => return Err(ImageError::unsupported("JPEG-LS with a mapping table is not supported")),
            (RESTART_INTERVAL, data) if data.iter().any(|&byte| byte != 0) => {
                return Err(ImageError::unsupported("JPEG-LS with restart markers is not supported"));
            }
            (START_OF_SCAN, &[1, _, 0, near, _, 0]) => {
                let coding = Coding::new(frame.precision, i32::from(near), preset)?;
                return Scan::new(&coding, segment.rest).picture(frame.columns, frame.rows);
            }
            (START_OF_SCAN, _) => {
                return Err(ImageError::unsupported(
                    "JPEG-LS with a mapping table or point transform is not supported",
                ));
            }
            _ => {}
        }
    }
    Err(ImageError::truncated("truncated JPEG-LS: it has no scan"))
}

/// The parameters of a scan, by the standard's names (its annex C.2.4.1.1 and A.2.1).
struct Coding {
    maxval: i32,
    near: i32,
    thresholds: [i32; 3],
    reset: i32,
    range: i32,
    qbpp: u32,
    limit: u32,
}

impl Coding {
    fn new(precision: u32, near: i32, preset: [i32; 5]) -> Result<Coding, ImageError> {
        let [maxval, t1, t2, t3, reset] = preset;
        let or = |value: i32, default: i32| if value == 0 { default } else { value };
        let maxval = or(maxval, (1 << precision) - 1);
        let bound = |value: i32, low: i32| if value > maxval || value < low { low } else { value };
        let (near1, near3, near5, near7) = (near + 1, 3 * near, 5 * near, 7 * near);
        let defaults = if maxval >= 128 {
            let factor = (maxval.min(4095) + 128) / 256;
            [factor + 2 + near3, 4 * factor + 3 + near5, 17 * factor + 4 + near7]
        } else {
            let factor = 256 / (maxval + 1);
            [2.max(3 / factor + near3), 3.max(7 / factor + near5), 4.max(21 / factor + near7)]
        };
        let t1 = or(t1, bound(defaults[0], near1));
        let t2 = or(t2, bound(defaults[1], t1));
        let t3 = or(t3, bound(defaults[2], t2));
        let reset = or(reset, 64);
        let range = (maxval + 2 * near) / (2 * near + 1) + 1;
        let possible =
            maxval < 1 << precision && near <= maxval / 2 && near < t1 && t1 <= t2 && t2 <= t3 && t3 <= maxval;
        if !possible || !(3..=255.max(maxval)).contains(&reset) {
            return Err(ImageError::damaged("damaged JPEG-LS: impossible coding parameters"));
        }
        let log2 = |value: i32| 32 - (value - 1).leading_zeros(); // rounded up
        let bpp = log2(maxval + 1).max(2);
        Ok(Coding {
            maxval,
            near,
            thresholds: [t1, t2, t3],
            reset,
            range,
            qbpp: log2(range),
            limit: 2 * (bpp + bpp.max(8)),
        })
    }

    /// A gradient's region, -4 to 4.
    fn region(&self, gradient: i32) -> i32 {
        let size = gradient.abs();
        let [t1, t2, t3] = self.thresholds;
        let region =
            i32::from(size > self.near) + i32::from(size >= t1) + i32::from(size >= t2) + i32::from(size >= t3);
        region * gradient.signum()
    }

    /// The value that an error gives a prediction.
    fn value(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = prediction + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.maxval + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.maxval)
    }
}

/// The statistics of one context: A, B, C and N of the standard. For the two of runs B counts
/// negative errors (Nn).
#[derive(Clone, Copy)]
struct Context {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
}

impl Context {
    /// The order of the Golomb code for a mean of `sum / n`.
    fn order(&self, sum: i32) -> u32 {
        let mut k = 0;
        while i64::from(self.n) << k < i64::from(sum) {
            k += 1;
        }
        k
    }
}

/// How long runs grow (J of the standard), by the run index.
const RUN: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

struct Scan<'a> {
    coding: &'a Coding,
    bits: Bits<'a>,
    regular: [Context; 365],
    run: [Context; 2],
    run_index: usize,
}

impl<'a> Scan<'a> {
    fn new(coding: &'a Coding, coded: &'a [u8]) -> Scan<'a> {
        let start = Context { a: 2.max((coding.range + 32) / 64), b: 0, c: 0, n: 1 };
        let bits = Bits::new(coded, Stuffing::Bit);
        Scan { coding, bits, regular: [start; 365], run: [start; 2], run_index: 0 }
    }

    fn picture(mut self, width: usize, height: usize) -> Result<Vec<u16>, ImageError> {
        let mut values = Vec::with_capacity(width * height);
        // One value before the line and one after it: what the neighbours outside the picture count
        // as.
        let (mut above, mut line) = (vec![0i32; width + 2], vec![0i32; width + 2]);
        for _ in 0..height {
            cancel::check()?;
            above[width + 1] = above[width];
            line[0] = above[1];
            self.line(&above, &mut line, width)?;
            values.extend(line[1..=width].iter().map(|&value| value as u16));
            std::mem::swap(&mut above, &mut line);
        }
        Ok(values)
    }

    fn line(&mut self, above: &[i32], line: &mut [i32], width: usize) -> Result<(), ImageError> {
        let mut x = 1;
        while x <= width {
            let (a, b, c, d) = (line[x - 1], above[x], above[x - 1], above[x + 1]);
            let [q1, q2, q3] = [d - b, b - c, c - a].map(|gradient| self.coding.region(gradient));
            let context = 81 * q1 + 9 * q2 + q3;
            if context != 0 {
                line[x] = self.regular(a, b, c, context)?;
                x += 1;
                continue;
            }
            let end = x + self.run_length(width + 1 - x)?;
            line[x..end].fill(a);
            x = end;
            if x <= width {
                line[x] = self.interruption(a, above[x])?;
                x += 1;
                self.run_index = self.run_index.saturating_sub(1);
            }
        }
        Ok(())
    }

    fn regular(&mut self, a: i32, b: i32, c: i32, context: i32) -> Result<i32, ImageError> {
        let coding = self.coding;
        let sign = context.signum();
        let state = &mut self.regular[context.unsigned_abs() as usize];
        let edge = if c >= a.max(b) {
            a.min(b)
        } else if c <= a.min(b) {
            a.max(b)
        } else {
            a + b - c
        };
        let prediction = (edge + sign * state.c).clamp(0, coding.maxval);
        let k = state.order(state.a);
        let code = golomb(&mut self.bits, coding, k, coding.limit)?;
        let half = code >> 1;
        let error = if coding.near == 0 && k == 0 && 2 * state.b <= -state.n {
            if code & 1 == 1 { half } else { -half - 1 }
        } else if code & 1 == 1 {
            -half - 1
        } else {
            half
        };
        state.b += error * (2 * coding.near + 1);
        state.a = state.a.saturating_add(error.abs());
        if state.n == coding.reset {
            state.a >>= 1;
            state.b >>= 1;
            state.n >>= 1;
        }
        state.n += 1;
        if state.b <= -state.n {
            state.b = (state.b + state.n).max(1 - state.n);
            state.c = (state.c - 1).max(-128);
        } else if state.b > 0 {
            state.b = (state.b - state.n).min(0);
            state.c = (state.c + 1).min(127);
        }
        Ok(coding.value(prediction, sign * error))
    }

    /// The pixels of a run, at most those left in the line.
    fn run_length(&mut self, left: usize) -> Result<usize, ImageError> {
        let mut length = 0;
        while self.bits.take(1)? == 1 {
            let step = 1 << RUN[self.run_index];
            if step > left - length {
                return Ok(left);
            }
            length += step;
            self.run_index = (self.run_index + 1).min(31);
            if length == left {
                return Ok(left);
            }
        }
        length += self.bits.take(RUN[self.run_index])? as usize;
        if length >= left {
            return Err(ImageError::damaged("damaged JPEG-LS: a run is longer than its line"));
        }
        Ok(length)
    }

    /// The pixel that ends a run.
    fn interruption(&mut self, a: i32, b: i32) -> Result<i32, ImageError> {
        let coding = self.coding;
        let kind = i32::from((a - b).abs() <= coding.near);
        let state = &mut self.run[kind as usize];
        let k = state.order(state.a + if kind == 1 { state.n >> 1 } else { 0 });
        let code = golomb(&mut self.bits, coding, k, coding.limit - RUN[self.run_index] - 1)?;
        let size = (code + kind + 1) >> 1;
        let negative = (k != 0 || 2 * state.b >= state.n) == ((code + kind) & 1 == 1);
        state.b += i32::from(negative && size > 0);
        state.a = state.a.saturating_add((code + 1 - kind) >> 1);
        if state.n == coding.reset {
            state.a >>= 1;
            state.b >>= 1;
            state.n >>= 1;
        }
        state.n += 1;
        let error = if negative { -size } else { size };
        Ok(if kind == 1 { coding.value(a, error) } else { coding.value(b, if a > b { -error } else { error }) })
    }
}

/// A code of the limited-length Golomb code of order `k`.
fn golomb(bits: &mut Bits, coding: &Coding, k: u32, limit: u32) -> Result<i32, ImageError> {
    let longest = limit.saturating_sub(coding.qbpp + 1);
    let zeros = bits.zeros(longest)?;
    let code = if zeros < longest {
        (i64::from(zeros) << k) + i64::from(bits.take(k.min(32))?)
    } else {
        i64::from(bits.take(coding.qbpp)?) + 1
    };
    // Twice the range is more than any error needs; a larger code would let the statistics
    // overflow.
    if code > 2 * i64::from(coding.range) {
        return Err(ImageError::damaged("damaged JPEG-LS: an error value is out of range"));
    }
    Ok(code as i32)
}
