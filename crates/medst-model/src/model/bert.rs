//! The report encoder: the first layers of BERT (paper, section 3.2; sizes of Bio_ClinicalBERT).
//!
//! Post-norm layers, LayerNorm ε = 1e-12, exact GELU, no token-type embedding.
//!
//! How this differs from the reference: the reference passes its token-type ids (all 0) where
//! position ids belong, so every token gets position 0; that is [`Positions::Zero`], and
//! [`Positions::Sequential`] is what was meant.
//!
//! Letters: `B` reports, `N` tokens, `H` width.

use tch::{Kind, Tensor};

use super::Mode;
use super::config::{Positions, TextConfig};
use super::dropout::Dropout;
use super::input::ReportInput;
use super::layers::{self, LayerNorm, Linear};
use super::parameters::{Init, Scope};
use super::stage::Stage;

pub(crate) const EPSILON: f64 = 1e-12;

#[derive(Debug)]
pub struct ReportEncoder {
    words: Tensor,
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    position_rule: Positions,
    dropout: f64,
}

impl ReportEncoder {
    pub fn new(scope: &Scope, config: &TextConfig) -> ReportEncoder {
        let width = config.hidden_size;
        let embeddings = scope.at("embeddings");
        ReportEncoder {
            words: embeddings.parameter("words", &[config.vocabulary, width], Init::TruncatedNormal),
            positions: embeddings.precise().parameter(
                "positions",
                &[config.max_positions, width],
                Init::TruncatedNormal,
            ),
            norm: LayerNorm::new(&embeddings.at("norm"), width, EPSILON),
            layers: (0..config.num_layers).map(|n| Layer::new(&scope.at(format_args!("layers.{n}")), config)).collect(),
            position_rule: config.positions,
            dropout: config.dropout,
        }
    }

    /// As [`Linear::compute_in_int8`], of all layers.
    pub fn compute_in_int8(&mut self) {
        let last = self.layers.len().saturating_sub(1);
        for (number, layer) in self.layers.iter_mut().enumerate() {
            // The last layer's query of `[CLS]` alone needs parts of this weight.
            if number < last {
                layer.qkv.compute_in_int8();
            }
            for linear in [&mut layer.projection, &mut layer.expand, &mut layer.contract] {
                linear.compute_in_int8();
            }
        }
    }

    /// The encoder as a chain of stages, from nothing to the states of all tokens: embedding,
    /// layers. Each stage returns one tensor `[B, N, H]`.
    pub fn stages<'a>(&'a self, input: &'a ReportInput, mode: Mode) -> Vec<Stage<'a>> {
        let keys = key_mask(input);
        let dropout = Dropout::new(mode, self.dropout, &input.seeds, input.ids.device());
        let layer = |(number, layer): (usize, &'a Layer)| -> Stage<'a> {
            let (keys, dropout) = (keys.shallow_clone(), dropout.handle());
            let place = 1 + number as i64 * Layer::PLACES;
            Box::new(move |x| vec![layer.forward(&x[0], &keys, &dropout, place)])
        };
        let first = dropout.handle();
        let embed: Stage<'a> = Box::new(move |_| vec![self.embed(input, &first)]);
        std::iter::once(embed).chain(self.layers.iter().enumerate().map(layer)).collect()
    }

    /// Only the `[CLS]` states after the last layer, `[B, H]`, without dropout; that layer's states
    /// of other tokens are not computed.
    pub fn class_states(&self, input: &ReportInput) -> Tensor {
        let Some(BeforeLast { last, x, keys }) = self.before_last(input) else {
            return self.embed(input, &Dropout::none()).select(1, 0);
        };
        last.class_state(&x, &keys)
    }

    /// Runs all layers but the last, without dropout; `None` without layers.
    fn before_last(&self, input: &ReportInput) -> Option<BeforeLast<'_>> {
        let (last, earlier) = self.layers.split_last()?;
        let (nothing, keys) = (Dropout::none(), key_mask(input));
        let first = self.embed(input, &nothing);
        let x = earlier.iter().fold(first, |x, layer| layer.forward(&x, &keys, &nothing, 0));
        Some(BeforeLast { last, x, keys })
    }

    /// Attention of `[CLS]` to every token in the last layer, heads averaged, `[B, N]`; rows sum to
    /// 1. For inspection: it runs the encoder once more, without dropout.
    pub fn class_attention(&self, input: &ReportInput) -> Tensor {
        match self.before_last(input) {
            Some(BeforeLast { last, x, keys }) => last.class_attention(&x, &keys),
            None => input.exists.to_kind(self.positions.kind()),
        }
    }

    fn embed(&self, input: &ReportInput, dropout: &Dropout) -> Tensor {
        let tokens = input.ids.size()[1];
        let positions = match self.position_rule {
            Positions::Sequential => self.positions.narrow(0, 0, tokens),
            Positions::Zero => self.positions.narrow(0, 0, 1),
        };
        let x = Tensor::embedding(&self.words, &input.ids, -1, false, false) + positions.unsqueeze(0);
        dropout.apply(&self.norm.forward(&x), 0)
    }
}

/// The last layer, and what it works on.
struct BeforeLast<'a> {
    last: &'a Layer,
    /// `[B, N, H]`: the states before it.
    x: Tensor,
    /// As of [`key_mask`].
    keys: Tensor,
}

/// `[B, 1, 1, N]` bool, true where a token exists.
fn key_mask(input: &ReportInput) -> Tensor {
    input.exists.unsqueeze(1).unsqueeze(1)
}

/// One post-norm layer.
#[derive(Debug)]
struct Layer {
    qkv: Linear,
    projection: Linear,
    attention_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
    norm: LayerNorm,
    heads: i64,
}

impl Layer {
    /// At which dropout acts: attention weights, what attention gave, what the units gave.
    const PLACES: i64 = 3;

    fn new(scope: &Scope, config: &TextConfig) -> Layer {
        let width = config.hidden_size;
        Layer {
            qkv: Linear::new(&scope.at("attention.qkv"), width, 3 * width),
            projection: Linear::new(&scope.at("attention.projection"), width, width),
            attention_norm: LayerNorm::new(&scope.at("attention.norm"), width, EPSILON),
            expand: Linear::new(&scope.at("expand"), width, config.intermediate_size),
            contract: Linear::new(&scope.at("contract"), config.intermediate_size, width),
            norm: LayerNorm::new(&scope.at("norm"), width, EPSILON),
            heads: config.num_heads,
        }
    }

    /// * `place`: the first of this layer's places of dropout.
    fn forward(&self, x: &Tensor, keys: &Tensor, dropout: &Dropout, place: i64) -> Tensor {
        let qkv = self.qkv.forward(x);
        let mixed = if dropout.acts() {
            // Dropout acts on the attention weights, so they have to exist.
            let (weights, value) = attention_weights(&qkv, self.heads, keys);
            let (batch, tokens) = (qkv.size()[0], qkv.size()[1]);
            dropout.apply(&weights, place).matmul(&value).transpose(1, 2).reshape([batch, tokens, -1])
        } else {
            layers::attention(&qkv, self.heads, Some(keys))
        };
        let x = self.attention_norm.forward(&(dropout.apply(&self.projection.forward(&mixed), place + 1) + x));
        let inner = layers::mlp(&x, None, &self.expand, &self.contract);
        self.norm.forward(&(dropout.apply(&inner, place + 2) + x))
    }

    /// Like [`Layer::forward`] without dropout, for the first token only: `[B, H]`.
    fn class_state(&self, x: &Tensor, keys: &Tensor) -> Tensor {
        let mixed = layers::first_attention(x, &self.qkv, self.heads, Some(keys));
        let state = self.attention_norm.forward(&(self.projection.forward(&mixed) + x.select(1, 0)));
        self.norm.forward(&(layers::mlp(&state, None, &self.expand, &self.contract) + &state))
    }

    fn class_attention(&self, x: &Tensor, keys: &Tensor) -> Tensor {
        let (weights, _) = attention_weights(&self.qkv.forward(x), self.heads, keys);
        weights.select(2, 0).mean_dim(&[1i64][..], false, None::<Kind>)
    }
}

/// Attention weights `[B, h, N, N]` and values `[B, h, N, H/h]` of stacked queries, keys and values
/// `[B, N, 3H]`.
fn attention_weights(qkv: &Tensor, heads: i64, keys: &Tensor) -> (Tensor, Tensor) {
    let (batch, tokens, width) = (qkv.size()[0], qkv.size()[1], qkv.size()[2] / 3);
    let head_width = width / heads;
    // Taken apart in one go: the gradient is put together in one too.
    let parts = qkv.view([batch, tokens, 3, heads, head_width]).unbind(2);
    let [query, key, value] = [0, 1, 2].map(|part: usize| parts[part].transpose(1, 2));
    let scores = query.matmul(&key.transpose(2, 3)) / (head_width as f64).sqrt();
    let weights = scores.masked_fill(&keys.logical_not(), f64::NEG_INFINITY).softmax(-1, None::<Kind>);
    (weights, value)
}
