//! The report encoder with its projections as a graph.
//!
//! Which tokens make a word is a matter of the vocabulary (a piece `##…` belongs to the word before
//! it), so the graph has a table of that and takes token ids alone.
//!
//! Letters: `B` texts, `N` tokens, `W` = `N - 1` places for words, `H` encoder width, `D` embedding
//! width.

use medst_data::report::WordPiece;
use tch::Tensor;

use super::graph::Graph;
use super::proto::{Attribute, Axis, Element};
use crate::model::bert::EPSILON;
use crate::model::config::{ModelConfig, Positions, Semantics, TextConfig};

const ENCODER: &str = "report_encoder";

/// Adds the whole graph: token ids in, embeddings out.
pub fn build(graph: &mut Graph, config: &ModelConfig, pieces: &WordPiece) {
    let (text, embedding) = (&config.text, config.projection.embedding);
    let tokens = [Axis::Any("batch"), Axis::Any("tokens")];
    let ids = graph.input("input_ids", Element::Int64, &tokens, "word pieces: [CLS] … [SEP], then 0");
    let mask =
        graph.input("attention_mask", Element::Int64, &tokens, "1 where a token exists, 0 after the end of the text");
    let exists = graph.cast("exists", &mask, Element::Bool);
    let keys = graph.unsqueeze("keys", &exists, &[1, 2]);
    let count = graph.node("Shape", "count", &[&ids], &[("start", Attribute::Int(1)), ("end", Attribute::Int(2))]);
    let mut x = embed(graph, text, &ids, &count);
    for number in 0..text.num_layers {
        x = layer(graph, text, &format!("{ENCODER}.layers.{number}"), &x, &keys);
    }
    let class = graph.token("class_state", &x, 0);
    let whole = graph.projection("report_global", &class);
    let row = [Axis::Any("batch"), Axis::Fixed(embedding)];
    graph.output("text_embedding", &whole, Element::Float, &row, "unit vectors, to be compared with image_embedding");
    words(graph, config, pieces, &Tokens { ids: &ids, exists: &exists, mask: &mask, count: &count, states: &x });
}

/// Token ids to `[B, N, H]`.
fn embed(graph: &mut Graph, config: &TextConfig, ids: &str, count: &str) -> String {
    let rows = graph.rows("embedded", &format!("{ENCODER}.embeddings.words"), ids);
    let name = format!("{ENCODER}.embeddings.positions");
    let positions = match config.positions {
        Positions::Sequential => {
            let table = graph.weight(&name);
            let [start, axis] = [graph.ints(&[0]), graph.ints(&[0])];
            graph.node("Slice", "positions", &[&table, &start, count, &axis], &[])
        }
        Positions::Zero => {
            let first = graph.weights.get(&name).narrow(0, 0, 1);
            graph.tensor(&name, &first)
        }
    };
    let sum = graph.node("Add", "embedded.placed", &[&rows, &positions], &[]);
    graph.layer_norm(&format!("{ENCODER}.embeddings.norm"), &sum, EPSILON)
}

/// A post-norm layer.
fn layer(graph: &mut Graph, config: &TextConfig, place: &str, x: &str, keys: &str) -> String {
    let attention = format!("{place}.attention");
    let mixed = graph.attention(&attention, x, config.hidden_size, config.num_heads, Some(keys));
    let sum = graph.node("Add", &format!("{place}.attended"), &[&mixed, x], &[]);
    let x = graph.layer_norm(&format!("{attention}.norm"), &sum, EPSILON);
    let inner = graph.mlp(place, &x);
    let sum = graph.node("Add", &format!("{place}.sum"), &[&inner, &x], &[]);
    graph.layer_norm(&format!("{place}.norm"), &sum, EPSILON)
}

/// The tokens that words are made of.
struct Tokens<'a> {
    /// `[B, N]` int64.
    ids: &'a str,
    /// `[B, N]` bool.
    exists: &'a str,
    /// `[B, N]` int64.
    mask: &'a str,
    /// `[1]` int64: `N`.
    count: &'a str,
    /// `[B, N, H]`.
    states: &'a str,
}

/// The words' embeddings, and their mean, which heat maps compare patches with.
fn words(graph: &mut Graph, config: &ModelConfig, pieces: &WordPiece, tokens: &Tokens) {
    let number = word_of_token(graph, config, pieces, tokens);
    // Word w of a text is the sum of its tokens' states: a product with a matrix of ones and zeros.
    // Word 0 is [CLS], which is none.
    let axis = graph.ints(&[0]);
    let scalar = graph.node("Squeeze", "count.scalar", &[tokens.count, &axis], &[]);
    let one = graph.int(1);
    let numbers = graph.node("Range", "word.numbers", &[&one, &scalar, &one], &[]);
    let column = graph.unsqueeze("word.column", &numbers, &[1]);
    let own = graph.unsqueeze("word.of_token.row", &number, &[1]);
    let own = graph.node("Equal", "word.tokens", &[&column, &own], &[]);
    let own = graph.cast("word.sums", &own, Element::Float);
    let features = graph.node("MatMul", "word.features", &[&own, tokens.states], &[]);
    let last = graph.node(
        "ReduceMax",
        "word.last",
        &[&number],
        &[("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(1))],
    );
    let exists = graph.node("LessOrEqual", "word.exists", &[&numbers, &last], &[]);
    let local = graph.projection("word_local", &features);
    let real = graph.cast("word.exists.float", &exists, Element::Float);
    let real = graph.unsqueeze("word.exists.column", &real, &[2]);
    let local = graph.node("Mul", "word.local", &[&local, &real], &[]);
    let axis = graph.ints(&[1]);
    let sum = graph.node("ReduceSum", "phrase.sum", &[&local, &axis], &[("keepdims", Attribute::Int(0))]);
    let many = graph.cast("word.count", &last, Element::Float);
    let least = graph.float(1.0);
    let many = graph.node("Max", "word.count.max", &[&many, &least], &[]);
    let phrase = graph.node("Div", "phrase.mean", &[&sum, &many], &[]);
    let embedding = Axis::Fixed(config.projection.embedding);
    let (batch, places) = (Axis::Any("batch"), Axis::Any("words"));
    let meaning = "mean of the words' vectors, to be compared with patches";
    graph.output("phrase", &phrase, Element::Float, &[batch.clone(), embedding.clone()], meaning);
    let meaning =
        "unit vectors of the words ([SEP] is the last), then zeros; one row fewer than tokens, because [CLS] has none";
    graph.output("words", &local, Element::Float, &[batch.clone(), places.clone(), embedding], meaning);
    graph.output("word_exists", &exists, Element::Bool, &[batch, places], "whether there is a word");
}

/// The number of the word that each token belongs to, `[B, N]` int64: 0 for `[CLS]` and for tokens
/// of no word ([`crate::model::input::ReportInput`]).
fn word_of_token(graph: &mut Graph, config: &ModelConfig, pieces: &WordPiece, tokens: &Tokens) -> String {
    let begins: Vec<f32> =
        (0..pieces.size() as u32).map(|id| if pieces.is_continuation(id) { 0.0 } else { 1.0 }).collect();
    let table = graph.tensor("vocabulary.begins_a_word", &Tensor::from_slice(&begins));
    let begins = graph.node("Gather", "word.begins", &[&table, tokens.ids], &[]);
    let axis = graph.int(1);
    let number = graph.node("CumSum", "word.cumulated", &[&begins, &axis], &[]);
    let number = graph.cast("word.counted", &number, Element::Int64);
    let (one, zero) = (graph.int(1), graph.int(0));
    let number = graph.node("Sub", "word.number", &[&number, &one], &[]);
    let existing = graph.node("Where", "word.of_token.existing", &[tokens.exists, &number, &zero], &[]);
    if config.semantics == Semantics::Corrected {
        return existing;
    }
    // The reference loses the last token of a report that fills the window, and the word before it.
    let axis = graph.ints(&[1]);
    let length = graph.node("ReduceSum", "length", &[tokens.mask, &axis], &[]);
    let window = graph.int(config.text.max_tokens);
    let full = graph.node("GreaterOrEqual", "window.full", &[&length, &window], &[]);
    let last = graph.node(
        "ReduceMax",
        "window.last",
        &[&existing],
        &[("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(1))],
    );
    let kept = graph.node("Sub", "window.kept", &[&last, &one], &[]);
    let lost = graph.node("GreaterOrEqual", "window.beyond", &[&existing, &kept], &[]);
    let lost = graph.node("And", "window.lost", &[&full, &lost], &[]);
    graph.node("Where", "word.of_token", &[&lost, &zero, &existing], &[])
}
