//! Pictures of example studies, as the model sees them, with heat maps.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use medst_data::corpus::Corpus;
use medst_data::image::crop::{Corner, crop};

use crate::Result;
use crate::eval::encode::Encoder;
use crate::eval::suite::CorpusResult;
use crate::infer::heat::HeatMap;

/// A picture, ready for a page.
#[derive(Clone, Debug)]
pub struct Picture {
    /// `data:` address of the grey picture.
    pub plain: String,
    /// The same under a heat map.
    pub heat: Option<String>,
}

/// Pictures by row of the corpus and phrase.
pub type Pictures = BTreeMap<(usize, Option<String>), Picture>;

/// Draws what the examples of a corpus' tasks name.
///
/// # Errors
/// An error of the encoder; a picture that cannot be read.
pub fn draw(result: &CorpusResult, corpus: &Corpus, encoder: &dyn Encoder) -> Result<Pictures> {
    let examples = result.tasks.iter().flat_map(|task| &task.examples);
    let mut wanted: Vec<(usize, Option<String>)> =
        examples.flat_map(|example| example.rows.iter().map(|&row| (row, example.phrase.clone()))).collect();
    wanted.sort();
    wanted.dedup();
    let looked: Vec<(usize, String)> =
        wanted.iter().filter_map(|(row, phrase)| Some((*row, phrase.clone()?))).collect();
    let maps = encoder.heat_maps(corpus, &looked)?.unwrap_or_default();
    let maps: BTreeMap<(usize, String), HeatMap> = looked.into_iter().zip(maps).collect();
    let side = encoder.seen_side(corpus);
    let picture = |key: (usize, Option<String>)| {
        let mut grey = vec![0; side * side];
        let stored = corpus.image_size();
        let square = corpus.image(corpus.studies()[key.0].frontal)?;
        crop(&square, stored, Corner::centre(stored, side), side, &mut grey);
        let map = key.1.as_ref().and_then(|phrase| maps.get(&(key.0, phrase.clone())));
        let map = map.filter(|map| map.side == side);
        let heat = map.map(|map| address(&overlay(&grey, map), side, png::ColorType::Rgb));
        Ok((key, Picture { plain: address(&grey, side, png::ColorType::Grayscale), heat }))
    };
    wanted.into_iter().map(picture).collect()
}

/// A square PNG as a `data:` address.
fn address(pixels: &[u8], side: usize, colour: png::ColorType) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png_bytes(pixels, side, side, colour)))
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

/// Red, green and blue of heats from 0 to 1.
const STOPS: [[f32; 3]; 5] =
    [[20.0, 11.0, 53.0], [101.0, 21.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// The heat map over the picture; from its lowest to its highest value.
fn overlay(grey: &[u8], map: &HeatMap) -> Vec<u8> {
    let low = map.values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = map.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = if high > low { high - low } else { 1.0 };
    let heats = map.values.iter().map(|&value| ((value - low) / range).clamp(0.0, 1.0));
    grey.iter().zip(heats).flat_map(|(&grey, heat)| blend(grey, heat)).collect()
}

/// A grey value under a heat from 0 to 1.
pub(crate) fn blend(grey: u8, heat: f32) -> [u8; 3] {
    let place = heat * (STOPS.len() - 1) as f32;
    let first = (place as usize).min(STOPS.len() - 2);
    let part = place - first as f32;
    // Where the map is cold, the radiograph stays visible.
    let cover = 0.15 + 0.5 * heat;
    std::array::from_fn(|n| {
        let colour = STOPS[first][n] + (STOPS[first + 1][n] - STOPS[first][n]) * part;
        (f32::from(grey) * (1.0 - cover) + colour * cover).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_pixel_is_the_brightest_and_a_flat_map_is_even() {
        let grey = vec![100; 4];
        let pixels = overlay(&grey, &HeatMap { side: 2, values: vec![0.0, 0.1, 0.2, 0.9] });
        let bright = |pixel: usize| pixels[3 * pixel..3 * pixel + 3].iter().map(|&x| u32::from(x)).sum::<u32>();
        assert!((0..3).all(|pixel| bright(pixel) < bright(3)));
        let flat = overlay(&grey, &HeatMap { side: 2, values: vec![0.5; 4] });
        assert!(flat.chunks(3).all(|pixel| pixel == &flat[..3]));
    }
}
