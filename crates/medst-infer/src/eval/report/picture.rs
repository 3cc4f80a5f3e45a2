//! Pictures of example studies, as the model sees them, with heat maps.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use medst_data::corpus::Corpus;
use medst_data::image::crop::{Corner, crop};

use crate::Result;
use crate::eval::encode::Encoder;
use crate::eval::suite::CorpusResult;
use crate::infer::draw::{blend, png_bytes};
use crate::infer::heat::HeatMap;

/// The picture of an example study, ready for a page.
#[derive(Clone, Debug)]
pub struct ExamplePicture {
    /// `data:` address of the grey picture.
    pub plain: String,
    /// The same under a heat map.
    pub heat: Option<String>,
}

/// Pictures by row of the corpus and phrase.
pub type ExamplePictures = BTreeMap<(usize, Option<String>), ExamplePicture>;

/// Draws what the examples of a corpus' tasks name.
///
/// # Errors
/// An error of the encoder; a picture that cannot be read.
pub fn draw(result: &CorpusResult, corpus: &Corpus, encoder: &dyn Encoder) -> Result<ExamplePictures> {
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
        Ok((key, ExamplePicture { plain: address(&grey, side, png::ColorType::Grayscale), heat }))
    };
    wanted.into_iter().map(picture).collect()
}

/// A square PNG as a `data:` address.
fn address(pixels: &[u8], side: usize, colour: png::ColorType) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png_bytes(pixels, side, side, colour)))
}

/// The heat map over the picture; from its lowest to its highest value.
fn overlay(grey: &[u8], map: &HeatMap) -> Vec<u8> {
    let low = map.values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = map.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = if high > low { high - low } else { 1.0 };
    let heats = map.values.iter().map(|&value| ((value - low) / range).clamp(0.0, 1.0));
    grey.iter().zip(heats).flat_map(|(&grey, heat)| blend(grey, heat)).collect()
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
