//! Crops of a stored square: random in training, centred otherwise.

use rand::Rng;

/// The upper left corner of a crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corner {
    pub top: usize,
    pub left: usize,
}

impl Corner {
    /// The crop that leaves equal margins.
    pub fn centre(stored: usize, side: usize) -> Corner {
        let margin = (stored - side) / 2;
        Corner { top: margin, left: margin }
    }

    /// Any crop, all equally likely.
    pub fn random(stored: usize, side: usize, random: &mut impl Rng) -> Corner {
        let mut offset = || random.random_range(0..=stored - side);
        Corner { top: offset(), left: offset() }
    }
}

/// Copies a `side × side` crop of a `stored × stored` picture into `target`.
///
/// # Panics
/// When the crop leaves the picture or `target` is not `side²` long.
pub fn crop(picture: &[u8], stored: usize, corner: Corner, side: usize, target: &mut [u8]) {
    assert_eq!(target.len(), side * side);
    for (row, line) in target.chunks_exact_mut(side).enumerate() {
        let start = (corner.top + row) * stored + corner.left;
        line.copy_from_slice(&picture[start..start + side]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_holds_the_pixels_under_it() {
        let picture: Vec<u8> = (0..16).collect();
        let mut target = [0; 4];
        crop(&picture, 4, Corner::centre(4, 2), 2, &mut target);
        assert_eq!(target, [5, 6, 9, 10]);
    }
}
