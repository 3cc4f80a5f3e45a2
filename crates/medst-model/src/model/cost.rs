//! The operations that a step requires: the multiplications and additions of its matrix products,
//! counted as two for each pair. Absent views and padding are not required and not counted; nor are
//! element-wise operations, softmax and normalisations, which an ideal program overlaps with the
//! products.

use super::config::{ImageConfig, ModelConfig, StemKind};

/// The size of a batch.
#[derive(Clone, Debug)]
pub struct Load {
    /// Whether each study has a lateral view.
    pub laterals: Vec<bool>,
    /// Tokens of each study's report.
    pub tokens: Vec<i64>,
    /// Words of each study's report.
    pub words: Vec<i64>,
}

/// Operations of the forward pass with all losses but the temporal ones (which are some thousand).
pub fn forward(config: &ModelConfig, load: &Load) -> f64 {
    images(config, &load.laterals) + reports(config, load) + losses(config, load)
}

/// Operations of a training step: every product of the forward pass has two in the backward pass.
pub fn step(config: &ModelConfig, load: &Load) -> f64 {
    3.0 * forward(config, load)
}

/// The image side: encoder and projections.
pub fn images(config: &ModelConfig, laterals: &[bool]) -> f64 {
    let image = &config.image;
    let (patches, width) = (image.patches() as f64, image.hidden_size as f64);
    let views = |lateral: bool| if lateral { 2.0 } else { 1.0 };
    let study = |lateral: bool| {
        let patches = views(lateral) * patches;
        let embed = views(lateral) * stem(image);
        let block = transformer(patches + 1.0, width, image.intermediate_size as f64);
        embed + image.num_layers as f64 * block + projection(config, width, 1.0 + patches)
    };
    laterals.iter().map(|&lateral| study(lateral)).sum()
}

/// The stem of one picture.
fn stem(image: &ImageConfig) -> f64 {
    let (patches, width) = (image.patches() as f64, image.hidden_size as f64);
    match image.stem {
        StemKind::Patches => 2.0 * patches * (image.patch * image.patch) as f64 * width,
        StemKind::Convolutions => {
            let channels = image.stem_channels();
            let stage = |(n, &outputs): (usize, &i64)| {
                let inputs = if n == 0 { 1 } else { channels[n - 1] };
                let side = (image.size >> (n + 1)) as f64;
                2.0 * side * side * (9 * outputs * (inputs + outputs)) as f64
            };
            let convolutions: f64 = channels.iter().enumerate().map(stage).sum();
            convolutions + 2.0 * patches * channels[channels.len() - 1] as f64 * width
        }
    }
}

/// Operations of the image side for the embeddings of whole studies
/// ([`MedSt::encode_whole_images`](super::MedSt::encode_whole_images) and the projection).
pub fn whole_images(config: &ModelConfig, laterals: &[bool]) -> f64 {
    let image = &config.image;
    let (width, inner) = (image.hidden_size as f64, image.intermediate_size as f64);
    let saved = |&lateral: &bool| {
        let tokens = 1.0 + if lateral { 2.0 } else { 1.0 } * image.patches() as f64;
        let patches = projection(config, width, tokens - 1.0);
        patches + if image.num_layers > 0 { unneeded(tokens, width, inner) } else { 0.0 }
    };
    images(config, laterals) - laterals.iter().map(saved).sum::<f64>()
}

/// Operations of the report side for the embeddings of whole reports.
pub fn whole_reports(config: &ModelConfig, load: &Load) -> f64 {
    let text = &config.text;
    let saved = |(&tokens, &words): (&i64, &i64)| {
        let last = if text.num_layers > 0 {
            unneeded(tokens as f64, text.hidden_size as f64, text.intermediate_size as f64)
        } else {
            0.0
        };
        last + projection(config, text.hidden_size as f64, words as f64)
    };
    reports(config, load) - load.tokens.iter().zip(&load.words).map(saved).sum::<f64>()
}

/// Operations of a layer for all tokens that the state of the first one does not need.
/// ([`layers::first_attention`](super::layers::first_attention) replaces keys and values by a small
/// extra product: 1 % of the layer in a ViT-B, which is not counted.)
fn unneeded(tokens: f64, width: f64, inner: f64) -> f64 {
    transformer(tokens, width, inner) - transformer(1.0, width, inner)
}

/// The report side: encoder and projections.
pub fn reports(config: &ModelConfig, load: &Load) -> f64 {
    let text = &config.text;
    let width = text.hidden_size as f64;
    let layers = text.num_layers as f64;
    let report = |(&tokens, &words): (&i64, &i64)| {
        layers * transformer(tokens as f64, width, text.intermediate_size as f64)
            + projection(config, width, 1.0 + words as f64)
    };
    load.tokens.iter().zip(&load.words).map(report).sum()
}

/// The projections of both sides.
pub fn heads(config: &ModelConfig, load: &Load) -> f64 {
    image_heads(config, load) + report_heads(config, load)
}

/// The projections of the image side, a part of [`images`].
pub fn image_heads(config: &ModelConfig, load: &Load) -> f64 {
    let views = |lateral: bool| if lateral { 2.0 } else { 1.0 };
    let rows = |&lateral: &bool| 1.0 + views(lateral) * config.image.patches() as f64;
    load.laterals.iter().map(|lateral| projection(config, config.image.hidden_size as f64, rows(lateral))).sum()
}

/// The projections of the report side, a part of [`reports`].
pub fn report_heads(config: &ModelConfig, load: &Load) -> f64 {
    load.words.iter().map(|&words| projection(config, config.text.hidden_size as f64, 1.0 + words as f64)).sum()
}

/// A layer over the tokens of one sequence.
fn transformer(tokens: f64, width: f64, inner: f64) -> f64 {
    2.0 * tokens * (4.0 * width * width + 2.0 * width * inner) + 4.0 * tokens * tokens * width
}

fn projection(config: &ModelConfig, width: f64, rows: f64) -> f64 {
    let (hidden, embedding) = (config.projection.hidden as f64, config.projection.embedding as f64);
    2.0 * rows * (width * hidden + hidden * embedding)
}

/// Local alignment in both directions, and the scores of all images and reports.
fn losses(config: &ModelConfig, load: &Load) -> f64 {
    let studies = load.laterals.len() as f64;
    local(config, load) + 2.0 * studies * studies * config.projection.embedding as f64
}

/// Local alignment in both directions.
pub fn local(config: &ModelConfig, load: &Load) -> f64 {
    let embedding = config.projection.embedding as f64;
    let patches = config.image.patches() as f64;
    let study = |(&lateral, &words): (&bool, &i64)| {
        let (patches, words) = (patches * if lateral { 2.0 } else { 1.0 }, words as f64);
        // Scores and contexts in both directions, then each side's tokens against their own
        // contexts.
        2.0 * embedding * (4.0 * patches * words + patches * patches + words * words)
    };
    load.laterals.iter().zip(&load.words).map(study).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ViT-B/16 at 224 pixels is published as 17.5 to 17.6 billion multiply-add pairs with three
    /// input channels.
    #[test]
    fn a_frontal_picture_costs_what_vit_b_costs() {
        let config = ModelConfig::default();
        let blocks = images(&config, &[false]) - projection(&config, 768.0, 197.0);
        // Here one channel is read instead of three: 0.08 billion pairs less.
        assert!((blocks / 2.0 - 17.5e9).abs() < 0.1e9, "{blocks}");
    }

    /// Eleven of twelve blocks; of patches' embeddings nothing.
    #[test]
    fn whole_studies_cost_less() {
        let config = ModelConfig::default();
        let (all, whole) = (images(&config, &[false]), whole_images(&config, &[false]));
        let block = transformer(197.0, 768.0, 3072.0);
        let expected = all - projection(&config, 768.0, 196.0) - block;
        assert!((whole / expected - 1.0).abs() < 1e-3, "{whole}, {expected}");
        let load = Load { laterals: vec![true], tokens: vec![80], words: vec![60] };
        let share = whole_reports(&config, &load) / reports(&config, &load);
        assert!((0.8..0.9).contains(&share), "{share}");
    }

    #[test]
    fn a_study_costs_the_same_whatever_the_others_are() {
        let config = ModelConfig::default();
        let load = |count: usize| Load { laterals: vec![true; count], tokens: vec![80; count], words: vec![60; count] };
        let scores = 2.0 * 128.0;
        let one = forward(&config, &load(1)) - scores;
        assert!((forward(&config, &load(4)) - 4.0 * one - 16.0 * scores).abs() < 1.0);
        assert_eq!(step(&config, &load(2)), 3.0 * forward(&config, &load(2)));
    }
}
