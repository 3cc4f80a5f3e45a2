//! BERT in the names of transformers: `pytorch_model.bin` or `model.safetensors` of
//! Bio_ClinicalBERT, of BioViL's CXR-BERT, or of any other that has at least the configured number
//! of layers.
//!
//! Ours has no token types. Every token of a report is of type 0, so the library adds row 0 of that
//! table to every token before it adds the position: adding the row to every word of the word table
//! gives the same sum, to the bit. With the reference's semantics the row is left out, as the
//! reference leaves it out.

use std::collections::BTreeMap;

use tch::Tensor;

use super::Misfit;
use super::counterpart::Counterpart;
use crate::model::config::TextConfig;

pub const TYPES: &str = "embeddings.token_type_embeddings.weight";
pub const WORDS: &str = "embeddings.word_embeddings.weight";
pub const POSITIONS: &str = "embeddings.position_embeddings.weight";

/// The counterpart in a BERT of our tensor `name` (a name below `report_encoder`).
pub fn counterpart(name: &str) -> Option<Counterpart> {
    let one = |name: String| Some(Counterpart::one(name));
    if let Some(rest) = name.strip_prefix("embeddings.") {
        return match rest {
            "words" => one(WORDS.into()),
            "positions" => one(POSITIONS.into()),
            rest => one(format!("embeddings.LayerNorm.{}", rest.strip_prefix("norm.")?)),
        };
    }
    let (number, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    let layer = format!("encoder.layer.{number}");
    let (path, leaf) = rest.rsplit_once('.')?;
    match path {
        "attention.qkv" => {
            let names = ["query", "key", "value"].map(|part| format!("{layer}.attention.self.{part}.{leaf}"));
            Some(Counterpart::stacked(names.to_vec()))
        }
        "attention.projection" => one(format!("{layer}.attention.output.dense.{leaf}")),
        "attention.norm" => one(format!("{layer}.attention.output.LayerNorm.{leaf}")),
        "expand" => one(format!("{layer}.intermediate.dense.{leaf}")),
        "contract" => one(format!("{layer}.output.dense.{leaf}")),
        "norm" => one(format!("{layer}.output.LayerNorm.{leaf}")),
        _ => None,
    }
}

/// Why a tensor of a file is not used; `None` where no reason is known.
///
/// * `token_types`: whether the token types are left out.
pub fn unused(name: &str, layers: i64, token_types: bool) -> Option<&'static str> {
    let layer = name.strip_prefix("encoder.layer.").and_then(|rest| rest.split('.').next()?.parse::<i64>().ok());
    let heads = ["cls.", "cls_projection_head.", "classifier.", "qa_outputs.", "predictions."];
    let reasons = [
        (layer.is_some_and(|layer| layer >= layers), "layers beyond model.text.num_layers"),
        (name.contains(".crossattention."), "cross-attention, not used for reports alone"),
        (name.starts_with("pooler."), "the pooler; the report feature is the [CLS] state itself"),
        (name.ends_with("position_ids") || name.ends_with("token_type_ids"), "constant index lists"),
        (heads.iter().any(|head| name.starts_with(head)), "heads for other training tasks"),
        (token_types && name == TYPES, "token types, which the reference implementation does not use"),
    ];
    reasons.into_iter().find_map(|(found, reason)| found.then_some(reason))
}

/// Sizes by shapes, in the number of layers that the file has. Positions are sequential; heads are
/// 0, since no shape depends on them.
///
/// # Errors
/// Names what is missing or has no shape of a BERT.
pub fn sizes(shapes: &BTreeMap<&str, Vec<i64>>) -> Result<TextConfig, Misfit> {
    let matrix = |name: &str| match shapes.get(name) {
        Some(shape) if shape.len() == 2 => Ok((shape[0], shape[1])),
        Some(shape) => Err(Misfit::Shape(format!("`{name}` has shape {shape:?}, expected a matrix"))),
        None => Err(Misfit::Missing(name.to_string())),
    };
    let (vocabulary, hidden_size) = matrix(WORDS)?;
    let (max_positions, _) = matrix(POSITIONS)?;
    let (intermediate_size, _) = matrix("encoder.layer.0.intermediate.dense.weight")?;
    let defaults = TextConfig::default();
    Ok(TextConfig {
        vocabulary,
        hidden_size,
        num_layers: super::numbered(shapes.keys().copied(), "encoder.layer."),
        num_heads: 0,
        intermediate_size,
        max_positions,
        max_tokens: max_positions.min(defaults.max_tokens),
        ..defaults
    })
}

/// Why a file with BERT's names is a RoBERTa, whose own class writes the same names without a
/// prefix; `None` without a sign of that. For files whose `config.json` does not name the model.
pub fn is_roberta(tensors: &BTreeMap<String, Tensor>) -> Option<String> {
    let rows = |name: &str| tensors.get(name).and_then(|table| table.size().first().copied());
    // RoBERTa counts positions from 2, so its table has two rows more than a power of two.
    let positions = rows(POSITIONS).filter(|&rows| rows > 64 && (rows - 2).count_ones() == 1);
    let reserved = || {
        let table = tensors.get(POSITIONS).filter(|table| table.dim() == 2 && table.size()[0] > 2)?;
        let zeros = |row: i64| table.select(0, row).count_nonzero_dim_intlist([0i64]).int64_value(&[]) == 0;
        Some(zeros(1) && !zeros(0) && !zeros(2))
    };
    let signs = [
        (tensors.keys().any(|name| name.starts_with("lm_head.")), "`lm_head` in its names".to_string()),
        (rows(TYPES) == Some(1), "a single token type".to_string()),
        (positions.is_some(), format!("{} positions", positions.unwrap_or_default())),
        (reserved() == Some(true), "nothing at position 1, which RoBERTa reserves for padding".to_string()),
    ];
    signs.into_iter().find_map(|(found, sign)| found.then_some(sign))
}

/// Older files name scale and shift of a layer normalisation as TensorFlow does.
pub fn rename(tensors: &mut BTreeMap<String, Tensor>) -> Option<String> {
    let old: Vec<String> = tensors
        .keys()
        .filter(|name| name.ends_with("LayerNorm.gamma") || name.ends_with("LayerNorm.beta"))
        .cloned()
        .collect();
    for name in &old {
        let renamed = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
        if let Some(tensor) = tensors.remove(name) {
            tensors.entry(renamed).or_insert(tensor);
        }
    }
    (!old.is_empty())
        .then(|| format!("gamma and beta of {} layer norms renamed to weight and bias", old.len().div_ceil(2)))
}

/// Adds token type 0, which every token has, to the word table. Returns a note for the user; `None`
/// where the file has no token types.
///
/// # Errors
/// A table of another width.
pub fn fold_token_types(tensors: &mut BTreeMap<String, Tensor>) -> Result<Option<String>, Misfit> {
    let Some(types) = tensors.get(TYPES) else { return Ok(None) };
    let words = tensors.get(WORDS).ok_or_else(|| Misfit::Missing(WORDS.to_string()))?;
    if types.dim() != 2 || words.dim() != 2 || types.size()[0] < 1 || types.size()[1] != words.size()[1] {
        return Err(Misfit::Shape(format!(
            "`{TYPES}` has shape {:?}, which does not fit word embeddings of shape {:?}",
            types.size(),
            words.size()
        )));
    }
    let row = types.select(0, 0);
    let zero = row.count_nonzero_dim_intlist([0i64]).int64_value(&[]) == 0;
    let folded = if zero { None } else { Some(words + &row) };
    tensors.remove(TYPES);
    Ok(Some(match folded {
        Some(words) => {
            tensors.insert(WORDS.into(), words);
            "token type 0 added to every word embedding (a report has no other type)".into()
        }
        None => "token type 0 is all zeros: nothing to add to the word embeddings".into(),
    }))
}
