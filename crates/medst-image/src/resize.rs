//! Resizing to the square that a corpus stores: OpenCV's `INTER_AREA`, then zero padding.
//!
//! The longest side becomes `side`, the other `floor(other * side / longest)`; the image is centred
//! between zeros (the odd row or column goes below or to the right). Shrinking averages areas: each
//! output pixel is the area-weighted mean of the source pixels it covers, in float32. Enlarging is
//! OpenCV's bilinear variant for `INTER_AREA`, in its 11-bit fixed point. OpenCV sums along rows
//! first; here columns come first, because whole rows are then added with vector instructions. Sums
//! differ in the last bits of float32 only, results by one grey level at most.

use super::{GreyImage, ImageError};

/// Fits `image` into a `side`×`side` square.
///
/// # Errors
/// A picture so thin that its short side would vanish.
///
/// # Panics
/// When `image.pixels` does not hold `width * height` pixels.
pub fn to_square(image: &GreyImage, side: usize) -> Result<Vec<u8>, ImageError> {
    let (width, height) = (image.width, image.height);
    assert_eq!(image.pixels.len(), width * height, "pixels of a {width}x{height} image");
    let fit = Fit::new(width, height, side)?;
    let longest = width.max(height);
    if longest > side {
        return Ok(shrink(image, &fit));
    }
    let mut square = vec![0; side * side];
    let rows = fit.rows(&mut square);
    if longest == side {
        image.pixels.chunks_exact(width).zip(rows).for_each(|(source, target)| target.copy_from_slice(source));
    } else {
        enlarge(image, fit.width, fit.height, rows);
    }
    Ok(square)
}

/// How a picture fits into its square.
pub(super) struct Fit {
    side: usize,
    /// Size of the picture in the square.
    pub width: usize,
    pub height: usize,
    /// Whether each output pixel covers whole source pixels; sums are then exact, and divided by
    /// their number at the end.
    pub whole_scale: bool,
    factor: f32,
    /// OpenCV has a separate path for halving, which rounds half up; all others round half to even.
    halving: bool,
}

impl Fit {
    /// # Errors
    /// A picture so thin that its short side would vanish.
    pub fn new(width: usize, height: usize, side: usize) -> Result<Fit, ImageError> {
        let longest = width.max(height);
        let fit = |length: usize| (length * side).checked_div(longest).unwrap_or(0);
        let (new_width, new_height) = (fit(width), fit(height));
        if new_width == 0 || new_height == 0 {
            return Err(ImageError::TooNarrow { width, height, side });
        }
        let whole_scale = width.is_multiple_of(new_width) && height.is_multiple_of(new_height);
        let area = (width / new_width) * (height / new_height);
        Ok(Fit {
            side,
            width: new_width,
            height: new_height,
            whole_scale,
            factor: if whole_scale && area > 0 { 1.0 / area as f32 } else { 1.0 },
            halving: whole_scale && width / new_width == 2 && height / new_height == 2,
        })
    }

    /// The rows of the picture in the square.
    fn rows<'a>(&self, square: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> + use<'a> {
        let (left, top) = ((self.side - self.width) / 2, (self.side - self.height) / 2);
        let width = self.width;
        square.chunks_exact_mut(self.side).skip(top).take(self.height).map(move |row| &mut row[left..left + width])
    }

    /// The square of a picture whose weighted sums are given row by row.
    pub fn square<'a>(&self, sums: impl Iterator<Item = &'a [f32]>) -> Vec<u8> {
        let mut square = vec![0; self.side * self.side];
        for (row, sums) in self.rows(&mut square).zip(sums) {
            for (out, sum) in row.iter_mut().zip(sums) {
                *out = self.grey(*sum);
            }
        }
        square
    }

    fn grey(&self, sum: f32) -> u8 {
        let mean = sum * self.factor;
        if self.halving { (mean + 0.5).floor() as u8 } else { mean.round_ties_even() as u8 }
    }
}

/// The share of consecutive source pixels in one output pixel: `weights[0]` belongs to source pixel
/// `start`.
pub(super) struct Cover {
    pub start: usize,
    pub weights: Vec<f32>,
}

/// Which source pixels each of `target` output pixels covers. With `counts`, the scale is a whole
/// number and every weight is 1, so that sums stay exact; otherwise the weights of one output pixel
/// sum to 1.
pub(super) fn covers(source: usize, target: usize, counts: bool) -> Vec<Cover> {
    if counts {
        let scale = source / target;
        return (0..target).map(|index| Cover { start: index * scale, weights: vec![1.0; scale] }).collect();
    }
    // The inverse of the inverse, as OpenCV computes it: the same double, with the same rounding.
    let scale = 1.0 / (target as f64 / source as f64);
    (0..target)
        .map(|index| {
            let from = index as f64 * scale;
            let to = from + scale;
            let cell = scale.min(source as f64 - from);
            let last = (to.floor() as usize).min(source - 1);
            let first = (from.ceil() as usize).min(last);
            let mut cover = Cover { start: first, weights: Vec::with_capacity(last - first + 2) };
            // Slivers thinner than a thousandth are left out, as OpenCV does.
            if first as f64 - from > 1e-3 {
                cover.start = first - 1;
                cover.weights.push(((first as f64 - from) / cell) as f32);
            }
            cover.weights.extend(std::iter::repeat_n((1.0 / cell) as f32, last - first));
            if to - last as f64 > 1e-3 {
                cover.weights.push(((to - last as f64).min(1.0).min(cell) / cell) as f32);
            }
            cover
        })
        .collect()
}

fn shrink(image: &GreyImage, fit: &Fit) -> Vec<u8> {
    let (width, height) = (image.width, image.height);
    let columns = covers(width, fit.width, fit.whole_scale);
    let mut sums = vec![0f32; width];
    let mut square = vec![0; fit.side * fit.side];
    for (cover, target) in covers(height, fit.height, fit.whole_scale).iter().zip(fit.rows(&mut square)) {
        sums.fill(0.0);
        let covered = image.pixels[cover.start * width..].chunks_exact(width);
        for (&weight, source) in cover.weights.iter().zip(covered) {
            sums.iter_mut().zip(source).for_each(|(sum, &pixel)| *sum += weight * f32::from(pixel));
        }
        for (column, out) in columns.iter().zip(target) {
            let covered = &sums[column.start..column.start + column.weights.len()];
            *out = fit.grey(covered.iter().zip(&column.weights).map(|(sum, weight)| sum * weight).sum());
        }
    }
    square
}

/// One output pixel between source pixels `near` and `far`, weighted in 1/2048.
struct Between {
    near: usize,
    far: usize,
    weights: [i32; 2],
}

fn betweens(source: usize, target: usize) -> Vec<Between> {
    let inverse = target as f64 / source as f64;
    let scale = 1.0 / inverse;
    (0..target)
        .map(|index| {
            let near = (index as f64 * scale).floor() as usize;
            let fraction = ((index + 1) as f64 - (near + 1) as f64 * inverse) as f32;
            let fraction = if fraction <= 0.0 { 0.0 } else { fraction - fraction.floor() };
            let (near, fraction) = if near + 1 >= source { (source - 1, 0.0) } else { (near, fraction) };
            let fixed = |weight: f32| (weight * 2048.0).round_ties_even() as i32;
            Between { near, far: (near + 1).min(source - 1), weights: [fixed(1.0 - fraction), fixed(fraction)] }
        })
        .collect()
}

fn enlarge<'a>(image: &GreyImage, new_width: usize, new_height: usize, rows: impl Iterator<Item = &'a mut [u8]>) {
    let columns = betweens(image.width, new_width);
    let along = |row: usize| -> Vec<i32> {
        let source = &image.pixels[row * image.width..(row + 1) * image.width];
        columns
            .iter()
            .map(|at| i32::from(source[at.near]) * at.weights[0] + i32::from(source[at.far]) * at.weights[1])
            .collect()
    };
    let widened: Vec<Vec<i32>> = (0..image.height).map(along).collect();
    for (at, target) in betweens(image.height, new_height).iter().zip(rows) {
        let pairs = widened[at.near].iter().zip(&widened[at.far]);
        for ((&near, &far), out) in pairs.zip(target) {
            let near = (at.weights[0] * (near >> 4)) >> 16;
            let far = (at.weights[1] * (far >> 4)) >> 16;
            *out = ((near + far + 2) >> 2) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> GreyImage {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect();
        GreyImage { width, height, pixels }
    }

    #[test]
    fn the_stored_size_is_copied_and_padding_is_centred() {
        let square = to_square(&image(8, 5, |x, y| (10 * y + x + 1) as u8), 8).unwrap();
        assert!(square[..8].iter().all(|&pixel| pixel == 0), "floor(3/2) = 1 row above");
        assert_eq!(square[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(square[6 * 8..].iter().all(|&pixel| pixel == 0), "2 rows below");
    }

    #[test]
    fn halving_rounds_half_up_and_thirds_half_to_even() {
        let halved = to_square(&image(4, 4, |x, y| u8::from(x % 2 == 0) + u8::from(x % 2 == 0 && y % 2 == 0)), 2);
        assert_eq!(halved.unwrap(), [1; 4], "(2 + 0 + 1 + 0 + 2) / 4 = 0.75");
        let half = image(4, 4, |x, y| u8::from(x % 2 == 0 || y > 9));
        assert_eq!(to_square(&half, 2).unwrap(), [1; 4], "0.5 rounds up");
        let quarter = image(8, 8, |x, y| u8::from((x % 4 < 2) != (y > 9)));
        assert_eq!(to_square(&quarter, 2).unwrap(), [0; 4], "0.5 rounds to the even 0");
    }

    #[test]
    fn fractional_covers_weigh_by_area() {
        // 3 pixels to 2: the middle one counts half in each.
        let covers = covers(3, 2, false);
        assert_eq!(covers[0].start, 0);
        assert_eq!(covers[1].start, 1);
        for (weight, expected) in covers[0].weights.iter().zip([2.0 / 3.0, 1.0 / 3.0]) {
            assert!((weight - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn a_side_that_would_vanish_is_an_error() {
        let error = to_square(&image(300, 1, |_, _| 9), 256).unwrap_err().to_string();
        assert!(error.contains("image too narrow: 300×1 pixels"), "{error}");
        assert!(to_square(&image(0, 0, |_, _| 0), 256).is_err());
        assert!(to_square(&image(1, 1, |_, _| 9), 256).unwrap().iter().all(|&pixel| pixel == 9));
    }

    proptest! {
        #[test]
        fn a_constant_image_stays_constant(width in 1usize..700, height in 1usize..700, grey: u8) {
            if let Ok(square) = to_square(&image(width, height, |_, _| grey), 64) {
                let inside = (width * 64 / width.max(height)) * (height * 64 / width.max(height));
                prop_assert_eq!(square.iter().filter(|&&pixel| pixel == grey).count() >= inside, true);
                prop_assert!(square.iter().all(|&pixel| pixel == grey || pixel == 0));
            }
        }

        #[test]
        fn values_stay_within_the_range_of_the_source(
            width in 1usize..400, height in 1usize..400, low in 0u8..100, span in 0u8..156, seed: u32,
        ) {
            let noise = |x: usize, y: usize| {
                let mixed = (x as u32 ^ seed).wrapping_mul(2_654_435_761).wrapping_add((y as u32).wrapping_mul(40_503));
                low + ((mixed >> 13) % (u32::from(span) + 1)) as u8
            };
            if let Ok(square) = to_square(&image(width, height, noise), 96) {
                prop_assert!(square.iter().all(|&pixel| pixel == 0 || (low..=low + span).contains(&pixel)));
                prop_assert!(square.iter().filter(|&&pixel| pixel >= low).count() >= 96);
            }
        }
    }
}
