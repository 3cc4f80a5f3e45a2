//! A picture for a screen, and the square of it that the model reads: both decoded by the same code
//! as the models' inputs.

use medst_data::image::{ImageError, load};

use super::boxes::Placement;
use super::draw::{png_bytes, reduce};
use super::preprocessing::Preprocessing;

/// A picture to show.
#[derive(Clone, Debug)]
pub struct Display {
    /// Width and height of the file's picture.
    pub original: [usize; 2],
    /// The picture as an 8-bit grey PNG, as large as the file's or reduced.
    pub png: Vec<u8>,
    /// The square that it is fitted into, as an 8-bit grey PNG. Read as an input, this PNG gives
    /// the model exactly the values that the original file gives.
    pub square: Vec<u8>,
    /// The bounds of that square, `[left, top, right, bottom]` in pixels of the file's picture;
    /// padding is outside of the picture.
    pub square_bounds: [f64; 4],
    /// The bounds of its middle part, which the model reads.
    pub read_bounds: [f64; 4],
}

impl Display {
    /// * `longest`: side in pixels that the picture is reduced to where it is longer.
    ///
    /// # Errors
    /// A reason, without the file's name.
    pub fn decode(bytes: &[u8], preprocessing: Preprocessing, longest: usize) -> Result<Display, ImageError> {
        let (picture, square) = load::picture_and_square(bytes, preprocessing.stored(), preprocessing.decoding)?;
        let original = [picture.width, picture.height];
        let bounds = |side: usize| {
            let placement = Placement::new(side, preprocessing.stored(), original[0], original[1]);
            let length = side as f64 * placement.scale;
            [placement.left, placement.top, placement.left + length, placement.top + length]
        };
        let shown = if original[0].max(original[1]) > longest { reduce(&picture, longest)? } else { picture };
        let grey = png::ColorType::Grayscale;
        Ok(Display {
            original,
            png: png_bytes(&shown.pixels, shown.width, shown.height, grey),
            square: png_bytes(&square, preprocessing.stored(), preprocessing.stored(), grey),
            square_bounds: bounds(preprocessing.stored()),
            read_bounds: bounds(preprocessing.side()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medst_data::image::Decoding;

    #[test]
    fn the_square_is_seen_as_the_file_is_and_lies_where_it_was_cut() {
        let pixels: Vec<u8> = (0..300 * 200).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let file = png_bytes(&pixels, 300, 200, png::ColorType::Grayscale);
        let preprocessing = Preprocessing::new(60, 48, Decoding::default()).unwrap();
        let display = Display::decode(&file, preprocessing, 150).unwrap();
        assert_eq!(preprocessing.decode(&display.square).unwrap(), preprocessing.decode(&file).unwrap());
        assert_eq!(display.original, [300, 200]);
        assert_eq!(display.square_bounds, [0.0, -50.0, 300.0, 250.0]);
        assert_eq!(display.read_bounds, [30.0, -20.0, 270.0, 220.0]);
        assert_eq!(medst_data::image::size::declared(&display.png), Ok([150, 100]));
        assert!(Display::decode(b"GIF89a", preprocessing, 150).is_err());
    }
}
