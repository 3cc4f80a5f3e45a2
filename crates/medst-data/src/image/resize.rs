//! To the stored square: longest side to 256 by exact area averaging, the short side padded with zeros.
//!
//! Exact means: as OpenCV's `INTER_AREA`, which the reference uses. Each output pixel is the mean of the source pixels it
//! covers, weighted by the covered area; when enlarging, OpenCV interpolates bilinearly with its own choice of positions.

use super::GreyImage;

/// Resizes and pads a picture to `side × side`, row by row.
///
/// The longest side becomes `side`, the other `floor(other · side / longest)`; zeros fill the rest, `floor` of half of it left
/// or on top.
///
/// # Errors
/// A picture so thin that a side would vanish.
pub fn to_square(image: &GreyImage, side: usize) -> Result<Vec<u8>, String> {
    let longest = image.width.max(image.height);
    let (width, height) = (image.width * side / longest, image.height * side / longest);
    if width == 0 || height == 0 {
        let (w, h) = (image.width, image.height);
        return Err(format!("{w}×{h} pixels are too thin: a side would vanish at {side} pixels"));
    }
    let resized = resize(image, width, height);
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let mut square = vec![0; side * side];
    for (row, line) in resized.chunks_exact(width).enumerate() {
        let start = (top + row) * side + left;
        square[start..start + width].copy_from_slice(line);
    }
    Ok(square)
}

/// Resizes as OpenCV's `INTER_AREA` does; both sides must be at least 1.
fn resize(image: &GreyImage, width: usize, height: usize) -> Vec<u8> {
    if (width, height) == (image.width, image.height) {
        return image.pixels.clone();
    }
    let shrinks = width <= image.width && height <= image.height;
    let taps = if shrinks { area_taps } else { bilinear_taps };
    let (columns, rows) = (taps(image.width, width), taps(image.height, height));

    // Rows first: their weighted sums run along memory. Then each output pixel gathers its columns.
    let mut sums = vec![0f32; image.width];
    let mut resized = Vec::with_capacity(width * height);
    for row in &rows {
        sums.fill(0.0);
        for (offset, &weight) in row.weights.iter().enumerate() {
            let start = (row.start + offset) * image.width;
            let source = &image.pixels[start..start + image.width];
            for (sum, &pixel) in sums.iter_mut().zip(source) {
                *sum += weight * f32::from(pixel);
            }
        }
        resized.extend(columns.iter().map(|column| {
            let covered = &sums[column.start..column.start + column.weights.len()];
            let value: f32 = covered.iter().zip(&column.weights).map(|(sum, weight)| sum * weight).sum();
            value.round_ties_even() as u8
        }));
    }
    resized
}

/// The source pixels of one output pixel along one axis, and their weights, which sum to 1.
struct Taps {
    start: usize,
    weights: Vec<f32>,
}

/// Weights by covered length.
fn area_taps(source: usize, target: usize) -> Vec<Taps> {
    let scale = source as f64 / target as f64;
    (0..target)
        .map(|place| {
            let (from, to) = (place as f64 * scale, ((place + 1) as f64 * scale).min(source as f64));
            let start = from as usize;
            // A sliver left by rounding is no cover.
            let end = ((to - 1e-9).ceil() as usize).clamp(start + 1, source);
            let length = to - from;
            let weight = |pixel: usize| {
                let covered = (to.min((pixel + 1) as f64) - from.max(pixel as f64)).max(0.0);
                (covered / length) as f32
            };
            Taps { start, weights: (start..end).map(weight).collect() }
        })
        .collect()
}

/// OpenCV's bilinear positions of `INTER_AREA` when enlarging: a source pixel keeps its value except where an output pixel
/// crosses into the next one.
fn bilinear_taps(source: usize, target: usize) -> Vec<Taps> {
    let scale = source as f64 / target as f64;
    let inverse = target as f64 / source as f64;
    (0..target)
        .map(|place| {
            let start = ((place as f64 * scale) as usize).min(source - 1);
            let crossing = (place + 1) as f64 - (start + 1) as f64 * inverse;
            let next = if crossing <= 0.0 { 0.0 } else { crossing.fract() as f32 };
            if next == 0.0 || start + 1 == source {
                Taps { start, weights: vec![1.0] }
            } else {
                Taps { start, weights: vec![1.0 - next, next] }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_blocks_are_averaged_and_the_short_side_is_padded() {
        let image = GreyImage { width: 4, height: 2, pixels: vec![0, 2, 10, 10, 4, 6, 20, 20] };
        assert_eq!(to_square(&image, 2).unwrap(), [3, 15, 0, 0]);
    }

    #[test]
    fn thin_pictures_are_refused() {
        let image = GreyImage { width: 1, height: 300, pixels: vec![9; 300] };
        assert!(to_square(&image, 256).unwrap_err().contains("too thin"));
    }

    proptest! {
        #[test]
        fn constant_pictures_stay_constant(width in 1usize..70, height in 1usize..70, value: u8) {
            let image = GreyImage { width, height, pixels: vec![value; width * height] };
            if let Ok(square) = to_square(&image, 16) {
                let longest = width.max(height);
                let inside = (width * 16 / longest) * (height * 16 / longest);
                prop_assert_eq!(square.iter().filter(|&&v| v == value).count(), if value == 0 { 256 } else { inside });
            }
        }

        #[test]
        fn means_and_bounds_are_kept_when_shrinking(pixels in proptest::collection::vec(any::<u8>(), 37 * 37)) {
            let image = GreyImage { width: 37, height: 37, pixels: pixels.clone() };
            let small = to_square(&image, 8).unwrap();
            let mean = |values: &[u8]| values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
            prop_assert!((mean(&small) - mean(&pixels)).abs() < 0.6);
            prop_assert!(small.iter().max() <= pixels.iter().max() && small.iter().min() >= pixels.iter().min());
        }
    }
}
