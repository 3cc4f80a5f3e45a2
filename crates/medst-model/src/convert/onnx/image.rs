//! The image encoder with its projections as graphs: of a frontal view, and of a frontal and a
//! lateral view.
//!
//! With both views, `[CLS]`, frontal and lateral patches are one sequence of `1 + 2P` tokens that
//! attend to each other; after attention each view goes through its own expert. Positions and the
//! `[CLS]` token are folded into one table, and an empty row is inserted before the patches for
//! `[CLS]`.
//!
//! Letters: `B` studies, `S` side in pixels, `P` patches per view, `H` encoder width, `D` embedding
//! width.

use tch::{Kind, Tensor};

use super::graph::Graph;
use super::head;
use super::proto::{Attribute, Axis, Element};
use crate::model::config::{ImageConfig, Lateral, ModelConfig, StemKind};
use crate::model::head::HeadConfig;
use crate::model::stem;

const ENCODER: &str = "image_encoder";

/// The views that a graph takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    Frontal,
    Both,
}

/// Adds the whole graph: pixels in, embeddings out, and what a head says of single studies.
pub fn build(graph: &mut Graph, config: &ModelConfig, views: Views, of_studies: Option<&HeadConfig>) {
    let image = &config.image;
    let (patches, embedding) = (image.patches(), config.projection.embedding);
    let pixels = [Axis::Any("batch"), Axis::Fixed(image.size), Axis::Fixed(image.size)];
    let frontal =
        graph.input("frontal", Element::Uint8, &pixels, "grey values of frontal radiographs, rows from the top");
    let mut tokens = frontal_tokens(graph, image, &frontal);
    if views == Views::Both {
        let meaning = "grey values of the lateral radiographs of the same studies";
        let lateral = graph.input("lateral", Element::Uint8, &pixels, meaning);
        let lateral = lateral_tokens(graph, image, &lateral);
        tokens = graph.node("Concat", "tokens", &[&tokens, &lateral], &[("axis", Attribute::Int(1))]);
    }
    let separate = views == Views::Both && config.lateral == Lateral::Expert;
    for number in 0..image.num_layers {
        tokens = block(graph, image, &format!("{ENCODER}.blocks.{number}"), &tokens, separate);
    }
    let states = graph.layer_norm(&format!("{ENCODER}.norm"), &tokens, image.epsilon);
    let class = graph.token("class_state", &states, 0);
    let whole = graph.projection("image_global", &class);
    let row = |size: i64| [Axis::Any("batch"), Axis::Fixed(size)];
    graph.output(
        "image_embedding",
        &whole,
        Element::Float,
        &row(embedding),
        "unit vectors, to be compared with text_embedding",
    );
    graph.output(
        "image_feature",
        &class,
        Element::Float,
        &row(image.hidden_size),
        "[CLS] states, for probes and classifiers",
    );
    let all = 1 + patches * if views == Views::Both { 2 } else { 1 };
    let states = graph.tokens("patch_states", &states, 1, all);
    let local = graph.projection("patch_local", &states);
    let shape = [Axis::Any("batch"), Axis::Fixed(patches), Axis::Fixed(embedding)];
    let meaning = "unit vectors of the patches, row by row, to be compared with phrase and words";
    match views {
        Views::Frontal => graph.output("frontal_patches", &local, Element::Float, &shape, meaning),
        Views::Both => {
            let frontal = graph.tokens("frontal_local", &local, 0, patches);
            let lateral = graph.tokens("lateral_local", &local, patches, 2 * patches);
            graph.output("frontal_patches", &frontal, Element::Float, &shape, meaning);
            graph.output("lateral_patches", &lateral, Element::Float, &shape, meaning);
        }
    }
    if let Some(config) = of_studies {
        head::add(graph, config, &class);
    }
}

/// `[B, S, S]` uint8 to `[B, 1 + P, H]`.
fn frontal_tokens(graph: &mut Graph, config: &ImageConfig, pixels: &str) -> String {
    graph.set_prefix("frontal.");
    let patches = stem(graph, config, pixels);
    let room = graph.ints(&[0, 1, 0, 0, 0, 0]);
    let patches = graph.node("Pad", "with_class_token", &[&patches, &room], &[]);
    let [class, positions] = ["class_token", "positions"].map(|name| graph.weights.get(&format!("{ENCODER}.{name}")));
    let table = Tensor::cat(&[class + positions.narrow(1, 0, 1), positions.narrow(1, 1, config.patches())], 1);
    let table = graph.tensor(&format!("{ENCODER}.class_token_and_positions"), &table);
    let tokens = graph.node("Add", "tokens", &[&patches, &table], &[]);
    graph.set_prefix("");
    tokens
}

/// `[B, S, S]` uint8 to `[B, P, H]`.
fn lateral_tokens(graph: &mut Graph, config: &ImageConfig, pixels: &str) -> String {
    graph.set_prefix("lateral.");
    let patches = stem(graph, config, pixels);
    let positions = graph.weights.get(&format!("{ENCODER}.positions")).narrow(1, 1, config.patches());
    let table = graph.tensor(&format!("{ENCODER}.positions"), &positions);
    let tokens = graph.node("Add", "tokens", &[&patches, &table], &[]);
    graph.set_prefix("");
    tokens
}

/// Pixels to patches, `[B, S, S]` uint8 to `[B, P, H]` ([`crate::model::stem`]).
fn stem(graph: &mut Graph, config: &ImageConfig, pixels: &str) -> String {
    let [middle, one] = [127.5, 1.0].map(|value| graph.float(value));
    let values = graph.cast("pixels.float", pixels, Element::Float);
    let values = graph.node("Div", "pixels.scaled", &[&values, &middle], &[]);
    let values = graph.node("Sub", "pixels.normalised", &[&values, &one], &[]);
    let (side, patch) = (config.size / config.patch, config.patch);
    match config.stem {
        StemKind::Patches => {
            let cut = graph.reshape("patches.cut", &values, &[0, side, patch, side, patch]);
            let cut = graph.transpose("patches.transposed", &cut, &[0, 1, 3, 2, 4]);
            let rows = graph.reshape("patches.rows", &cut, &[0, side * side, patch * patch]);
            // The three input channels are equal, so the kernel's sum over its channels acts on
            // one.
            let place = format!("{ENCODER}.patch_embedding");
            let [weight, bias] = ["weight", "bias"].map(|part| graph.weights.get(&format!("{place}.{part}")));
            let kernel = weight.sum_dim_intlist(&[1i64][..], false, None::<Kind>).view([config.hidden_size, -1]);
            graph.map(&place, &rows, &kernel.tr(), &bias)
        }
        StemKind::Convolutions => {
            let mut cells = graph.unsqueeze("pixels.channel", &values, &[1]);
            let (mut side, channels) = (config.size, config.stem_channels());
            for (number, &count) in channels.iter().enumerate() {
                side = (side + 1) / 2;
                let place = format!("{ENCODER}.stem.{number}");
                let halved = convolution(graph, &format!("{place}.halve"), &cells, 2, [count, side, side]);
                let halved = graph.node("Relu", &format!("{place}.halve.relu"), &[&halved], &[]);
                let refined = convolution(graph, &format!("{place}.refine"), &halved, 1, [count, side, side]);
                let sum = graph.node("Add", &format!("{place}.sum"), &[&halved, &refined], &[]);
                cells = graph.node("Relu", &place, &[&sum], &[]);
            }
            let rows = graph.reshape("cells.rows", &cells, &[0, channels[channels.len() - 1], side * side]);
            let rows = graph.transpose("cells.transposed", &rows, &[0, 2, 1]);
            graph.linear(&format!("{ENCODER}.stem.projection"), &rows)
        }
    }
}

/// A 3×3 convolution whose outputs are normalised over all channels and pixels of a picture.
///
/// * `shape`: of a picture's outputs.
fn convolution(graph: &mut Graph, place: &str, x: &str, stride: i64, shape: [i64; 3]) -> String {
    let [weight, bias] = ["weight", "bias"].map(|part| graph.weight(&format!("{place}.{part}")));
    let attributes = [
        ("kernel_shape", Attribute::Ints(&[3, 3])),
        ("strides", Attribute::Ints(&[stride, stride])),
        ("pads", Attribute::Ints(&[1, 1, 1, 1])),
    ];
    let x = graph.node("Conv", &format!("{place}.convolution"), &[x, &weight, &bias], &attributes);
    // One instance of one channel: opset 17 has no normalisation of groups.
    let [one, zero] =
        [1.0f32, 0.0].map(|value| graph.tensor(&format!("floats[{value:?}]"), &Tensor::from_slice(&[value])));
    let flat = graph.reshape(&format!("{place}.flat"), &x, &[0, 1, -1]);
    let epsilon = [("epsilon", Attribute::Float(stem::EPSILON as f32))];
    let flat = graph.node("InstanceNormalization", &format!("{place}.normalised"), &[&flat, &one, &zero], &epsilon);
    let x = graph.reshape(&format!("{place}.pictures"), &flat, &[0, shape[0], shape[1], shape[2]]);
    let [scale, shift] = ["weight", "bias"].map(|part| {
        let name = format!("{place}.norm.{part}");
        let tensor = graph.weights.get(&name).view([-1, 1, 1]);
        graph.tensor(&name, &tensor)
    });
    let x = graph.node("Mul", &format!("{place}.scaled"), &[&x, &scale], &[]);
    graph.node("Add", place, &[&x, &shift], &[])
}

/// A pre-norm block on `[B, 1 + P, H]`, or `[B, 1 + 2P, H]`.
///
/// * `separate`: whether lateral tokens go through an expert of their own.
fn block(graph: &mut Graph, config: &ImageConfig, place: &str, x: &str, separate: bool) -> String {
    let normalised = graph.layer_norm(&format!("{place}.norm"), x, config.epsilon);
    let mixed = graph.attention(&format!("{place}.attention"), &normalised, config.hidden_size, config.num_heads, None);
    let x = graph.node("Add", &format!("{place}.attended"), &[x, &mixed], &[]);
    if !separate {
        return expert(graph, config, &format!("{place}.frontal_expert"), &x);
    }
    let patches = config.patches();
    let frontal = graph.tokens(&format!("{place}.frontal"), &x, 0, 1 + patches);
    let lateral = graph.tokens(&format!("{place}.lateral"), &x, 1 + patches, 1 + 2 * patches);
    let frontal = expert(graph, config, &format!("{place}.frontal_expert"), &frontal);
    let lateral = expert(graph, config, &format!("{place}.lateral_expert"), &lateral);
    graph.node("Concat", place, &[&frontal, &lateral], &[("axis", Attribute::Int(1))])
}

fn expert(graph: &mut Graph, config: &ImageConfig, place: &str, x: &str) -> String {
    let inner = graph.layer_norm(&format!("{place}.norm"), x, config.epsilon);
    let inner = graph.mlp(place, &inner);
    graph.node("Add", place, &[x, &inner], &[])
}
