//! From the coefficients of a block to its samples, to the last bit as libjpeg's accurate integer
//! transform, which OpenCV uses: the factorisation of Loeffler, Ligtenberg and Moschytz (ICASSP
//! 1989) in fixed point of 13 bits, with two more bits kept between columns and rows.

use super::frame::Block;

/// Bits of the constants' fractions.
const FRACTION: u32 = 13;
/// Bits kept after the columns.
const KEPT: u32 = 2;

/// A constant in fixed point.
const fn fixed(value: f64) -> i32 {
    (value * (1 << FRACTION) as f64 + 0.5) as i32
}

/// * `steps`: of the quantisation, row by row as the coefficients.
///
/// Returns the samples row by row.
pub fn samples(block: &Block, steps: &[u16; 64]) -> [u8; 64] {
    let mut values = [0i32; 64];
    for ((value, &coefficient), &step) in values.iter_mut().zip(block).zip(steps) {
        *value = i32::from(coefficient).wrapping_mul(i32::from(step));
    }
    for column in 0..8 {
        let line = std::array::from_fn(|row| values[8 * row + column]);
        for (row, value) in transform(line, FRACTION - KEPT).into_iter().enumerate() {
            values[8 * row + column] = value;
        }
    }
    let mut samples = [0; 64];
    for (line, out) in values.as_chunks::<8>().0.iter().zip(samples.chunks_exact_mut(8)) {
        // Three bits are the factor of 8 that the transform leaves.
        for (out, value) in out.iter_mut().zip(transform(*line, FRACTION + KEPT + 3)) {
            *out = value.saturating_add(128).clamp(0, 255) as u8;
        }
    }
    samples
}

/// Eight values in one direction, without the last `drop` bits of their fractions.
#[inline(always)]
fn transform(line: [i32; 8], drop: u32) -> [i32; 8] {
    // A damaged file may hold anything; sound ones never wrap.
    let times = |value: i32, factor: i32| value.wrapping_mul(factor);
    let plus = i32::wrapping_add;
    let minus = i32::wrapping_sub;

    // The even part.
    let middle = times(plus(line[2], line[6]), fixed(0.541_196_100));
    let low = minus(middle, times(line[6], fixed(1.847_759_065)));
    let high = plus(middle, times(line[2], fixed(0.765_366_865)));
    let sum = plus(line[0], line[4]) << FRACTION;
    let difference = minus(line[0], line[4]) << FRACTION;
    let even = [plus(sum, high), plus(difference, low), minus(difference, low), minus(sum, high)];

    // The odd part.
    let [a, b, c, d] = [line[7], line[5], line[3], line[1]];
    let both = times(plus(plus(a, c), plus(b, d)), fixed(1.175_875_602));
    let ad = times(plus(a, d), -fixed(0.899_976_223));
    let bc = times(plus(b, c), -fixed(2.562_915_447));
    let ac = plus(times(plus(a, c), -fixed(1.961_570_560)), both);
    let bd = plus(times(plus(b, d), -fixed(0.390_180_644)), both);
    let odd = [
        plus(times(d, fixed(1.501_321_110)), plus(ad, bd)),
        plus(times(c, fixed(3.072_711_026)), plus(bc, ac)),
        plus(times(b, fixed(2.053_119_869)), plus(bc, bd)),
        plus(times(a, fixed(0.298_631_336)), plus(ad, ac)),
    ];
    let round = |value: i32| plus(value, 1 << (drop - 1)) >> drop;
    std::array::from_fn(|at| match at {
        0..4 => round(plus(even[at], odd[at])),
        _ => round(minus(even[7 - at], odd[7 - at])),
    })
}
