//! Heat maps over radiographs, as PNG files.

use std::path::Path;

use medst_data::files::whole;
use medst_data::image::{Decoding, GreyImage, ImageError, load, resize};
use medst_data::input;
use medst_data::storage::objects;

use super::boxes::{HotBox, Placement};
use super::heat::HeatMap;
use super::preprocessing::{Preprocessing, Radiograph};
use crate::{Error, Result};

/// Longest side of drawn pictures: larger ones are reduced to it, and of smaller ones than the
/// other every pixel is drawn several times.
const LONGEST: usize = 1024;
const SHORTEST: usize = 512;
/// Colour of boxes.
const FRAME: [u8; 3] = [64, 224, 255];
/// Red, green and blue of heats from 0 to 1.
const STOPS: [[f32; 3]; 5] =
    [[20.0, 11.0, 53.0], [101.0, 21.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// A radiograph at the size in which it is drawn, with the place of the model's input in it.
#[derive(Debug)]
pub struct Canvas {
    grey: GreyImage,
    placement: Placement,
    /// Pixels of the original picture for one of this.
    reduction: f64,
    /// Width and height of the original picture.
    pub original: [usize; 2],
}

impl Canvas {
    /// Decodes a picture whole.
    ///
    /// * `side`, `stored`: of [`Preprocessing`].
    ///
    /// # Errors
    /// A reason, without the file's name.
    pub fn decode(bytes: &[u8], decoding: Decoding, side: usize, stored: usize) -> Result<Canvas, ImageError> {
        Canvas::new(load::picture_of(bytes, decoding)?, side, stored)
    }

    /// As [`Canvas::decode`], with what the model sees, as [`Preprocessing::decode`] gives it, by
    /// one decoding.
    ///
    /// # Errors
    /// A reason, without the file's name.
    pub fn decode_seen(bytes: &[u8], preprocessing: Preprocessing) -> Result<(Radiograph, Canvas), ImageError> {
        let (picture, square) = load::picture_and_square(bytes, preprocessing.stored(), preprocessing.decoding)?;
        Ok((
            preprocessing.middle(&square, preprocessing.stored()),
            Canvas::new(picture, preprocessing.side(), preprocessing.stored())?,
        ))
    }

    /// As [`Canvas::decode`], of a picture that was decoded before.
    ///
    /// # Errors
    /// A reason: too thin.
    pub fn new(picture: GreyImage, side: usize, stored: usize) -> Result<Canvas, ImageError> {
        let original = [picture.width, picture.height];
        let longest = picture.width.max(picture.height);
        let grey = match longest {
            longest if longest > LONGEST => reduce(&picture, LONGEST)?,
            longest if longest * 2 <= SHORTEST => magnify(&picture, SHORTEST / longest),
            _ => picture,
        };
        let placement = Placement::new(side, stored, grey.width, grey.height);
        let reduction = longest as f64 / grey.width.max(grey.height) as f64;
        Ok(Canvas { grey, placement, reduction, original })
    }

    /// The box of the model's input in pixels of the original picture.
    pub fn in_original(&self, found: HotBox) -> HotBox {
        let moved = self.placement.moved(found, self.grey.width, self.grey.height);
        HotBox { bounds: moved.bounds.map(|x| x * self.reduction), ..moved }
    }

    /// The picture under a heat map and boxes (both of the model's input), as a PNG file. Outside
    /// of what the model reads the picture stays grey.
    pub fn png(&self, map: &HeatMap, boxes: &[HotBox]) -> Vec<u8> {
        let (width, height) = (self.grey.width, self.grey.height);
        let mut pixels: Vec<u8> = self.grey.pixels.iter().flat_map(|&grey| [grey; 3]).collect();
        let low = map.values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = map.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let range = if high > low { high - low } else { 1.0 };
        let inside = |at: usize, start: f64| {
            let position = (at as f64 + 0.5 - start) / self.placement.scale;
            (position >= 0.0 && position < map.side as f64).then_some(position as usize)
        };
        for y in 0..height {
            let Some(row) = inside(y, self.placement.top) else { continue };
            for x in 0..width {
                let Some(column) = inside(x, self.placement.left) else { continue };
                let heat = ((map.values[row * map.side + column] - low) / range).clamp(0.0, 1.0);
                let at = y * width + x;
                pixels[3 * at..3 * at + 3].copy_from_slice(&blend(self.grey.pixels[at], heat));
            }
        }
        for found in boxes {
            frame(&mut pixels, width, height, self.placement.moved(*found, width, height).bounds);
        }
        png_bytes(&pixels, width, height, png::ColorType::Rgb)
    }
}

/// A grey value under a heat from 0 to 1.
pub(crate) fn blend(grey: u8, heat: f32) -> [u8; 3] {
    let position = heat * (STOPS.len() - 1) as f32;
    let first = (position as usize).min(STOPS.len() - 2);
    let part = position - first as f32;
    // Where the map is cold, the radiograph stays visible.
    let cover = 0.15 + 0.5 * heat;
    std::array::from_fn(|n| {
        let colour = STOPS[first][n] + (STOPS[first + 1][n] - STOPS[first][n]) * part;
        (f32::from(grey) * (1.0 - cover) + colour * cover).round() as u8
    })
}

/// Shrinks to a longest side of `target` by area averaging, without the padding.
pub(super) fn reduce(picture: &GreyImage, target: usize) -> Result<GreyImage, ImageError> {
    let square = resize::to_square(picture, target)?;
    let longest = picture.width.max(picture.height);
    let fit = |length: usize| (length * target / longest).max(1);
    let (width, height) = (fit(picture.width), fit(picture.height));
    let (left, top) = ((target - width) / 2, (target - height) / 2);
    let rows = square.chunks_exact(target).skip(top).take(height);
    let pixels = rows.flat_map(|row| row[left..left + width].iter().copied()).collect();
    Ok(GreyImage { width, height, pixels })
}

/// Draws every pixel `times` by `times`.
fn magnify(picture: &GreyImage, times: usize) -> GreyImage {
    let row = |row: &[u8]| row.iter().flat_map(|&grey| std::iter::repeat_n(grey, times)).collect::<Vec<u8>>();
    let rows = picture.pixels.chunks_exact(picture.width.max(1));
    let pixels = rows.flat_map(|pixels| row(pixels).repeat(times)).collect();
    GreyImage { width: picture.width * times, height: picture.height * times, pixels }
}

/// Draws the outline of a box, two pixels thick.
fn frame(pixels: &mut [u8], width: usize, height: usize, bounds: [f64; 4]) {
    let [left, top, right, bottom] = bounds.map(|x| x.round().max(0.0) as usize);
    let (right, bottom) = (right.min(width), bottom.min(height));
    let near = |at: usize, low: usize, high: usize| at < low + 2 || at + 2 >= high;
    for y in top..bottom {
        for x in left..right {
            if near(x, left, right) || near(y, top, bottom) {
                let at = 3 * (y * width + x);
                pixels[at..at + 3].copy_from_slice(&FRAME);
            }
        }
    }
}

/// A PNG file of 8-bit pixels.
pub(crate) fn png_bytes(pixels: &[u8], width: usize, height: usize, colour: png::ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().expect("a header in memory");
    writer.write_image_data(pixels).expect("as many pixels as declared");
    writer.finish().expect("an end in memory");
    bytes
}

/// Writes a picture; it appears whole or not at all.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, png: &[u8]) -> Result<()> {
    Ok(whole::write(path, png)?)
}

/// Reads a file: what the model sees of it and a canvas, by one decoding.
///
/// # Errors
/// Names the file.
pub fn open_seen(path: &Path, preprocessing: Preprocessing) -> Result<(Radiograph, Canvas)> {
    let bytes = objects::read(path)?;
    let seen = Canvas::decode_seen(&bytes, preprocessing);
    Ok(seen.map_err(medst_data::Error::image(path))?)
}

/// Reads a file and makes a canvas of it.
///
/// # Errors
/// Names the file.
pub fn open(path: &Path, decoding: Decoding, side: usize, stored: usize) -> Result<Canvas> {
    let bytes = input::read(path, input::PICTURE).map_err(Error::io(path))?;
    let canvas = Canvas::decode(&bytes, decoding, side, stored);
    Ok(canvas.map_err(medst_data::Error::image(path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(png: &[u8]) -> (usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png.to_vec())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (reader.info().width as usize, pixels)
    }

    #[test]
    fn the_heat_lies_where_the_model_looked_and_the_frame_around_it() {
        // 40×20 pixels in a square of 20 whose middle 16 are read; drawn 12 by 12.
        let grey = png_bytes(&[100; 800], 40, 20, png::ColorType::Grayscale);
        let canvas = Canvas::decode(&grey, Decoding::default(), 16, 20).unwrap();
        let mut map = HeatMap { side: 16, values: vec![0.0; 256] };
        map.values[8 * 16 + 8] = 1.0;
        let found = HotBox { bounds: [8.0, 8.0, 9.0, 9.0], mean: 1.0, peak: 1.0 };
        assert_eq!(canvas.in_original(found).bounds, [20.0, 10.0, 22.0, 12.0]);
        let (width, plain) = read(&canvas.png(&map, &[]));
        assert_eq!(width, 480);
        let at = |pixels: &[u8], x: usize, y: usize| {
            let start = 3 * (12 * y * width + 12 * x);
            [pixels[start], pixels[start + 1], pixels[start + 2]]
        };
        assert_eq!(at(&plain, 0, 10), [100, 100, 100], "not read, so not coloured");
        assert_ne!(at(&plain, 20, 10), at(&plain, 10, 10), "hot and cold differ");
        assert_eq!(at(&read(&canvas.png(&map, &[found])).1, 20, 10), FRAME);
    }

    #[test]
    fn large_pictures_are_reduced_and_boxes_keep_their_pixels() {
        let grey = png_bytes(&vec![9; 2048 * 1024], 2048, 1024, png::ColorType::Grayscale);
        let canvas = Canvas::decode(&grey, Decoding::default(), 224, 256).unwrap();
        let map = HeatMap { side: 224, values: vec![0.0; 224 * 224] };
        assert_eq!(read(&canvas.png(&map, &[])).0, LONGEST);
        let found = HotBox { bounds: [0.0, 56.0, 8.0, 64.0], mean: 0.0, peak: 0.0 };
        assert_eq!(canvas.in_original(found).bounds, [128.0, 64.0, 192.0, 128.0]);
    }
}
