//! Where patches resemble texts, as a graph: cosines on the grid of patches, and bilinear between
//! patch centres (`infer::heat`).
//!
//! Letters: `B` studies, `T` texts, `P` patches, `G` patches a side, `S` pixels a side, `D`
//! embedding width.

use super::graph::Graph;
use super::proto::{Attribute, Axis, Element};
use crate::model::config::ModelConfig;

/// Adds the whole graph: patches and texts in, maps out.
pub fn build(graph: &mut Graph, config: &ModelConfig) {
    let (image, embedding) = (&config.image, config.projection.embedding);
    let (grid, patch) = (image.size / image.patch, image.patch);
    let (batch, texts) = (Axis::Any("batch"), Axis::Any("texts"));
    let shape = [batch.clone(), Axis::Fixed(image.patches()), Axis::Fixed(embedding)];
    let patches =
        graph.input("patches", Element::Float, &shape, "frontal_patches or lateral_patches of an image graph");
    let shape = [texts.clone(), Axis::Fixed(embedding)];
    let phrases =
        graph.input("phrases", Element::Float, &shape, "phrase of the text graph, or single words of its words");
    let phrases = graph.transpose("phrases.transposed", &phrases, &[1, 0]);
    let cosines = graph.node("MatMul", "cosines", &[&patches, &phrases], &[]);
    let cosines = graph.transpose("cosines.transposed", &cosines, &[0, 2, 1]);
    let maps = graph.reshape("cosines.maps", &cosines, &[0, 0, grid, grid]);
    let side = |size: i64| [batch.clone(), texts.clone(), Axis::Fixed(size), Axis::Fixed(size)];
    graph.output(
        "similarity",
        &maps,
        Element::Float,
        &side(grid),
        "cosines of every patch with every text, on the grid of patches",
    );
    let scales = graph.tensor("scales", &tch::Tensor::from_slice(&[1.0, 1.0, patch as f32, patch as f32]));
    let attributes =
        [("mode", Attribute::Text("linear")), ("coordinate_transformation_mode", Attribute::Text("half_pixel"))];
    let heat = graph.node("Resize", "cosines.enlarged", &[&maps, "", &scales], &attributes);
    graph.output(
        "heat",
        &heat,
        Element::Float,
        &side(image.size),
        "the same in pixels of the input, bilinear between patch centres",
    );
}
