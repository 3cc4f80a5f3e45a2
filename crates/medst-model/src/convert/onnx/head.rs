//! The head of a fine-tuned model ([`crate::model::head`]): an output of the image graphs, or for a
//! change a graph of its own, which takes the features of two studies from an image graph.
//!
//! Letters: `B` studies or pairs of studies, `H` encoder width, `L` labels, `C` classes, `O`
//! outputs.

use super::graph::Graph;
use super::proto::{Attribute, Axis, Element};
use crate::model::head::{HeadConfig, HeadTask};

/// The layer's place in the model, and the name that the output has.
const HEAD: &str = "task_head";
const OUTPUT: &str = "predict";

/// Adds the output to an image graph.
///
/// * `features`: `[B, H]`.
pub fn add(graph: &mut Graph, config: &HeadConfig, features: &str) {
    let logits = graph.exact_linear(HEAD, features);
    let probabilities = match config.task {
        HeadTask::Findings => graph.node("Sigmoid", "task_head.probabilities", &[&logits], &[]),
        HeadTask::Exclusive | HeadTask::Change => {
            let (labels, classes) = (config.labels.len() as i64, config.classes.len() as i64);
            let by_label = graph.reshape("task_head.by_label", &logits, &[0, labels, classes]);
            let shares = graph.node("Softmax", "task_head.shares", &[&by_label], &[("axis", Attribute::Int(-1))]);
            graph.reshape("task_head.probabilities", &shares, &[0, labels * classes])
        }
    };
    let shape = [Axis::Any("batch"), Axis::Fixed(config.outputs() as i64)];
    let meaning = "probabilities by the head of the fine-tuned model, in the order of head.outputs";
    graph.output(OUTPUT, &probabilities, Element::Float, &shape, meaning);
}

/// Adds the whole graph of a change: features of two studies in, probabilities out.
///
/// * `width`: `H`.
pub fn build(graph: &mut Graph, config: &HeadConfig, width: i64) {
    let shape = [Axis::Any("batch"), Axis::Fixed(width)];
    let current = graph.input("current", Element::Float, &shape, "image_feature of studies, from an image graph");
    let previous = graph.input("previous", Element::Float, &shape, "image_feature of the studies before them");
    let change = graph.node("Sub", "change", &[&current, &previous], &[]);
    let inputs = [current.as_str(), previous.as_str(), change.as_str()];
    let features = graph.node("Concat", "features", &inputs, &[("axis", Attribute::Int(-1))]);
    add(graph, config, &features);
}
