//! Sizes and switches of the model. Defaults are the paper's (ViT-B/16, six BERT layers, embedding width 128).

use serde::{Deserialize, Serialize};

/// Which behaviour is computed where the reference implementation has known defects. See DESIGN.md for the full table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Semantics {
    /// What the paper means: absent views and padding words do not exist.
    #[default]
    Corrected,
    /// What the released implementation computes, for parity and for its checkpoints.
    Reference,
}

/// Where a token's position embedding comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Token n takes entry n.
    #[default]
    Sequential,
    /// Every token takes entry 0, as the reference does by mistake; its checkpoints were trained so.
    Zero,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    pub semantics: Semantics,
    pub image: ImageConfig,
    pub text: TextConfig,
    pub projection: ProjectionConfig,
}

/// The vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Side of the square input in pixels.
    pub size: i64,
    /// Side of a patch in pixels; divides `size`.
    pub patch: i64,
    pub width: i64,
    pub depth: i64,
    pub heads: i64,
    /// Hidden width of an expert's MLP.
    pub mlp: i64,
}

impl Default for ImageConfig {
    fn default() -> Self {
        ImageConfig { size: 224, patch: 16, width: 768, depth: 12, heads: 12, mlp: 3072 }
    }
}

impl ImageConfig {
    /// Patches of one view, `P`.
    pub fn patches(&self) -> i64 {
        (self.size / self.patch) * (self.size / self.patch)
    }
}

/// The BERT encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    pub vocabulary: i64,
    pub width: i64,
    pub layers: i64,
    pub heads: i64,
    pub intermediate: i64,
    /// Rows of the position table.
    pub max_positions: i64,
    /// Longest report in tokens, `[CLS]` and `[SEP]` included; longer ones are truncated.
    pub max_tokens: i64,
    pub dropout: f64,
    pub positions: Positions,
}

impl Default for TextConfig {
    fn default() -> Self {
        TextConfig {
            vocabulary: 28996,
            width: 768,
            layers: 6,
            heads: 12,
            intermediate: 3072,
            max_positions: 512,
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
