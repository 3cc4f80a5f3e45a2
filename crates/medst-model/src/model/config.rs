//! Sizes and switches of the model. Defaults are the paper's (ViT-B/16, six BERT layers, embedding
//! width 128).

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::head::HeadConfig;

/// Which behaviour is computed where the reference implementation has known defects. See DESIGN.md
/// for the full table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Semantics {
    /// What the paper means: absent views and padding words do not exist.
    #[default]
    Corrected,
    /// What the released implementation computes, for parity and for its checkpoints: an absent
    /// lateral view is a picture of zeros, whose patches enter local alignment and batch
    /// statistics; reports are padded to `text.max_tokens`, and padding words ask for patches and
    /// enter batch statistics; the context of patches→words is not normalised; a report that fills
    /// the window loses its last word and `[SEP]`. (Positions have [`TextConfig::positions`].)
    Reference,
}

/// Where a token's position embedding comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Token n takes entry n.
    #[default]
    Sequential,
    /// Every token takes entry 0, as the reference does by mistake; its checkpoints were trained
    /// so.
    Zero,
}

/// What layers compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    Float32,
    /// Rounded copies of float32 parameters; for GPUs, where it is several times as fast.
    BFloat16,
    /// As bfloat16, at the same published rate of a GPU, with eight times finer steps and a
    /// narrower range, which a factor on the loss makes up for.
    Float16,
    /// Everything in float64, to tell rounding from mistakes; twice the memory, and slow.
    Float64,
}

impl Precision {
    pub fn kind(self) -> Kind {
        match self {
            Precision::Float32 => Kind::Float,
            Precision::BFloat16 => Kind::BFloat16,
            Precision::Float16 => Kind::Half,
            Precision::Float64 => Kind::Double,
        }
    }
}

/// The temperature of the contrast between images and reports, which a run sets with
/// `loss.global_temperature`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Temperature {
    /// A number, as in the paper.
    #[default]
    Fixed,
    /// A parameter of the model (`super::contrast`).
    Learned,
}

/// What becomes of lateral views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lateral {
    /// Their tokens go through an expert of their own (the paper's mixture of view experts).
    #[default]
    Expert,
    /// Their tokens go through the frontal expert: one transformer for both views.
    Frontal,
    /// They are not used.
    Ignored,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    pub semantics: Semantics,
    /// Standard deviation of random weights. 0.02 suits widths of about 768; narrow models start
    /// faster with about `1/√width`.
    pub initial_deviation: f64,
    pub lateral: Lateral,
    pub temperature: Temperature,
    /// Findings for which the image encoder gets linear heads (`super::findings`); none by
    /// default.
    pub findings: Vec<String>,
    pub image: ImageConfig,
    pub text: TextConfig,
    pub projection: ProjectionConfig,
    /// What a fine-tuned model was tuned to tell; absent in all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadConfig>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            semantics: Semantics::default(),
            initial_deviation: 0.02,
            lateral: Lateral::default(),
            temperature: Temperature::default(),
            findings: Vec::new(),
            image: ImageConfig::default(),
            text: TextConfig::default(),
            projection: ProjectionConfig::default(),
            head: None,
        }
    }
}

/// How pixels become patch tokens (`super::stem`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StemKind {
    /// A linear map of each patch, as in the paper.
    #[default]
    Patches,
    /// Convolutions of stride 2 down to the patch grid; `patch` must be a power of two.
    Convolutions,
}

/// The vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Side of the square input in pixels.
    pub size: i64,
    /// Side of a patch in pixels; divides `size`.
    pub patch: i64,
    pub stem: StemKind,
    pub hidden_size: i64,
    /// Blocks.
    pub num_layers: i64,
    pub num_heads: i64,
    /// Inner width of an expert's MLP.
    pub intermediate_size: i64,
    /// Added to the variance in every layer normalisation: 1e-6 as in timm and DINOv2; some ViTs of
    /// transformers have 1e-12. A run takes it from the weights that it starts from.
    pub epsilon: f64,
}

impl Default for ImageConfig {
    fn default() -> Self {
        ImageConfig {
            size: 224,
            patch: 16,
            stem: StemKind::Patches,
            hidden_size: 768,
            num_layers: 12,
            num_heads: 12,
            intermediate_size: 3072,
            epsilon: 1e-6,
        }
    }
}

impl ImageConfig {
    /// Patches of one view, `P`.
    pub fn patches(&self) -> i64 {
        (self.size / self.patch) * (self.size / self.patch)
    }

    /// Channels after each convolution of stride 2 of [`StemKind::Convolutions`]: they double from
    /// stage to stage up to `hidden_size`.
    pub fn stem_channels(&self) -> Vec<i64> {
        let stages = self.patch.max(2).ilog2();
        (1..=stages).map(|stage| (self.hidden_size >> (stages - stage)).max(8)).collect()
    }
}

/// The BERT encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// Rows of the word table: entries of the vocabulary.
    pub vocabulary: i64,
    pub hidden_size: i64,
    pub num_layers: i64,
    pub num_heads: i64,
    /// Inner width of a layer's MLP.
    pub intermediate_size: i64,
    /// Rows of the position table. A run takes it from the weights that it starts from, and has
    /// `max_tokens` rows without any.
    pub max_positions: i64,
    /// Longest report in tokens, `[CLS]` and `[SEP]` included; longer ones are truncated.
    pub max_tokens: i64,
    pub dropout: f64,
    /// A run takes it from the weights that it starts from; sequential without any.
    pub positions: Positions,
}

impl Default for TextConfig {
    fn default() -> Self {
        TextConfig {
            vocabulary: 28996,
            hidden_size: 768,
            num_layers: 6,
            num_heads: 12,
            intermediate_size: 3072,
            max_positions: 112,
            max_tokens: 112,
            dropout: 0.1,
            positions: Positions::Sequential,
        }
    }
}

/// The four projection heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectionConfig {
    pub hidden: i64,
    /// Embedding width, `D`.
    pub embedding: i64,
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        ProjectionConfig { hidden: 2048, embedding: 128 }
    }
}

impl ModelConfig {
    /// Refuses sizes that cannot be built, naming the key.
    pub fn validate(&self) -> crate::Result<()> {
        // Far above any Med-ST model, and low enough that no product of them overflows.
        const SIDE: i64 = 1 << 13;
        const LAYERS: i64 = 1 << 10;
        const WIDTH: i64 = 1 << 16;
        const ROWS: i64 = 1 << 22;
        const MOST_PARAMETERS: i64 = 1 << 32;
        let sizes = [
            ("model.image.size", self.image.size, SIDE),
            ("model.image.patch", self.image.patch, SIDE),
            ("model.image.hidden_size", self.image.hidden_size, WIDTH),
            ("model.image.num_layers", self.image.num_layers, LAYERS),
            ("model.image.num_heads", self.image.num_heads, WIDTH),
            ("model.image.intermediate_size", self.image.intermediate_size, WIDTH),
            ("model.text.vocabulary", self.text.vocabulary, ROWS),
            ("model.text.hidden_size", self.text.hidden_size, WIDTH),
            ("model.text.num_layers", self.text.num_layers, LAYERS),
            ("model.text.num_heads", self.text.num_heads, WIDTH),
            ("model.text.intermediate_size", self.text.intermediate_size, WIDTH),
            ("model.text.max_tokens", self.text.max_tokens, ROWS),
            ("model.text.max_positions", self.text.max_positions, ROWS),
            ("model.projection.hidden", self.projection.hidden, WIDTH),
            ("model.projection.embedding", self.projection.embedding, WIDTH),
        ];
        let fail = |message: String| Err(crate::Error::Config(message));
        for (key, value, most) in sizes {
            if value < 1 || value > most {
                return fail(format!("{key} = {value}: must be from 1 to {most}"));
            }
        }
        // Most of them are in attention and MLPs, of which an image block has one for each kind of
        // view.
        let (image, text) = (&self.image, &self.text);
        let parameters = image.num_layers
            * (4 * image.hidden_size * image.hidden_size + 4 * image.hidden_size * image.intermediate_size)
            + text.num_layers
                * (4 * text.hidden_size * text.hidden_size + 2 * text.hidden_size * text.intermediate_size)
            + text.vocabulary * text.hidden_size;
        if parameters > MOST_PARAMETERS {
            return fail(format!(
                "model.image and model.text ask for about {} million parameters; at most {} million are supported",
                parameters / 1_000_000,
                MOST_PARAMETERS / 1_000_000
            ));
        }
        for (key, whole, part_key, part) in [
            ("model.image.size", self.image.size, "model.image.patch", self.image.patch),
            ("model.image.hidden_size", self.image.hidden_size, "model.image.num_heads", self.image.num_heads),
            ("model.text.hidden_size", self.text.hidden_size, "model.text.num_heads", self.text.num_heads),
        ] {
            if whole % part != 0 {
                return fail(format!("{key} = {whole} must be a multiple of {part_key} = {part}"));
            }
        }
        if self.image.stem == StemKind::Convolutions && !(self.image.patch as u64).is_power_of_two() {
            return fail(format!(
                "model.image.patch = {}: must be a power of two with model.image.stem = \"convolutions\"",
                self.image.patch
            ));
        }
        if self.text.max_tokens < 3 || self.text.max_tokens > self.text.max_positions {
            return fail(format!(
                "model.text.max_tokens = {}: must be between 3 and the {} positions of the report encoder",
                self.text.max_tokens, self.text.max_positions
            ));
        }
        if !(self.initial_deviation > 0.0 && self.initial_deviation <= 1.0) {
            return fail(format!(
                "model.initial_deviation = {}: must be above 0 and at most 1",
                self.initial_deviation
            ));
        }
        if !(self.image.epsilon > 0.0 && self.image.epsilon <= 1e-3) {
            return fail(format!("model.image.epsilon = {}: must be above 0 and at most 0.001", self.image.epsilon));
        }
        if !(0.0..1.0).contains(&self.text.dropout) {
            return fail(format!("model.text.dropout = {}: must be at least 0 and below 1", self.text.dropout));
        }
        self.head.as_ref().map_or(Ok(()), HeadConfig::validate)
    }
}

/// The sizes, in words.
impl fmt::Display for ModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ModelConfig { semantics, image, text, projection, .. } = self;
        let lower = |value: &dyn fmt::Debug| format!("{value:?}").to_lowercase();
        writeln!(
            f,
            "  image encoder: {}×{} pixels, patches of {}, {} blocks, hidden size {}, two view experts",
            image.size, image.size, image.patch, image.num_layers, image.hidden_size
        )?;
        writeln!(
            f,
            "  report encoder: {} layers, hidden size {}, {} tokens, {} positions",
            text.num_layers,
            text.hidden_size,
            text.max_tokens,
            lower(&text.positions)
        )?;
        writeln!(f, "  embeddings of {} values; {} semantics", projection.embedding, lower(semantics))?;
        match &self.head {
            Some(head) => writeln!(f, "  fine-tuned to predict: {}", head.names().join("; ")),
            None => Ok(()),
        }
    }
}
