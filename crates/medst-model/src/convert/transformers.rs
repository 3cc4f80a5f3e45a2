//! A folder for `transformers`: `from_pretrained` opens its parts, and `medst` the whole.
//!
//! * `frontal_image_encoder/`: a ViT with the frontal experts, loaded with
//!   `ViTModel.from_pretrained(…, add_pooling_layer=False)`.
//! * `lateral_image_encoder/`: a ViT with the lateral experts, for a lateral image alone, loaded in
//!   the same way.
//! * `report_encoder/`: a BERT with `vocab.txt`, loaded with `BertTokenizer` and
//!   `BertModel.from_pretrained(…, add_pooling_layer=False)`.
//! * `medst.safetensors`: projections and importance attentions, for which transformers has no
//!   class, and the card, loaded with `safetensors`.
//!
//! These classes cannot compute a frontal and a lateral image in one pass. In this program they
//! attend to each other.

use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use super::bert;
use super::fill::Filled;
use super::source::{Dialect, Sizes, Source};
use super::vit::Family;
use crate::model::MedSt;
use crate::model::card::{CARD, MODEL, ModelCard, VOCABULARY};
use crate::model::config::Positions;
use crate::model::group::Group;
use crate::model::weights::write_safetensors;
use crate::{Error, Result};
use medst_data::report::WordPiece;

/// File for the weights for which transformers has no class.
pub const REST: &str = "medst.safetensors";
pub const FRONTAL: &str = "frontal_image_encoder";
pub const LATERAL: &str = "lateral_image_encoder";
pub const REPORT: &str = "report_encoder";

const TEXT_POSITIONS: &str = "report_encoder.embeddings.positions";

/// Writes the folder; parts that came from no file are left out. Returns what was written and what
/// was not, for the user.
///
/// # Errors
/// A file that cannot be written.
pub fn write(
    folder: &Path,
    model: &MedSt,
    card: &ModelCard,
    pieces: &WordPiece,
    filled: &Filled,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if filled.has(Group::ImageEncoder) {
        for (name, dialect) in [(FRONTAL, Dialect::Image(Family::Vit)), (LATERAL, Dialect::LateralImage)] {
            let part = folder.join(name);
            std::fs::create_dir(&part).map_err(Error::io(&part))?;
            write_image_encoder(&part, model, dialect)?;
        }
        notes.push(format!(
            "{FRONTAL}: single frontal images; {LATERAL}: single lateral ones. A ViTModel cannot compute studies \
             with both views, whose images attend to each other"
        ));
    }
    let mut rest: Vec<(String, Tensor)> = Vec::new();
    if filled.has(Group::ReportEncoder) {
        let part = folder.join(REPORT);
        std::fs::create_dir(&part).map_err(Error::io(&part))?;
        rest.extend(write_report_encoder(&part, model, pieces)?);
        if model.config.text.positions == Positions::Zero {
            notes.push(format!(
                "{REPORT}: model.text.positions = \"zero\", so all its position embeddings are set to row 0; the \
                 original ones are in {REST}"
            ));
        }
    }
    let encoders = [Group::ImageEncoder, Group::LateralExperts, Group::ReportEncoder];
    for entry in model.parameters().iter().chain(model.buffers()) {
        let group = Group::from_name(&entry.name).filter(|group| !encoders.contains(group) && filled.has(*group));
        if group.is_some() {
            rest.push((entry.name.clone(), entry.tensor.shallow_clone()));
        }
    }
    if rest.iter().any(|(name, _)| name != TEXT_POSITIONS) {
        let tensors: Vec<(&str, &Tensor)> = rest.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        write_safetensors(&folder.join(REST), &tensors, Some(card.metadata()))?;
        notes.push(format!("{REST}: projections and importance attentions, for which transformers has no class"));
    }
    Ok(notes)
}

fn write_image_encoder(folder: &Path, model: &MedSt, dialect: Dialect) -> Result<()> {
    let mut tensors = Vec::new();
    for entry in model.parameters() {
        let lateral = Group::from_name(&entry.name) == Some(Group::LateralExperts);
        // Attention, embeddings and norms are shared by both views, each expert belongs to one.
        let found = match dialect {
            Dialect::LateralImage if lateral => dialect.counterpart(&entry.name, 0),
            Dialect::LateralImage if entry.name.contains(".frontal_expert.") => None,
            _ => Dialect::Image(Family::Vit).counterpart(&entry.name, 0),
        };
        tensors.extend(found.iter().flat_map(|found| found.scatter(&entry.tensor)));
    }
    let image = &model.config.image;
    let config = json!({
        "architectures": ["ViTModel"], "model_type": "vit", "hidden_size": image.hidden_size, "num_hidden_layers": image.num_layers,
        "num_attention_heads": image.num_heads, "intermediate_size": image.intermediate_size, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "layer_norm_eps": image.epsilon, "image_size": image.size, "patch_size": image.patch,
        "num_channels": 3, "qkv_bias": true, "torch_dtype": "float32",
    });
    let size = json!({"height": image.size, "width": image.size});
    let pixels = json!({
        "image_processor_type": "ViTImageProcessor", "do_rescale": true, "rescale_factor": 1.0 / 255.0, "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_resize": true, "size": size, "resample": 2,
    });
    write_part(folder, &tensors, &[(CARD, &config), ("preprocessor_config.json", &pixels)])
}

/// Returns the table of positions where the written one is another.
fn write_report_encoder(folder: &Path, model: &MedSt, pieces: &WordPiece) -> Result<Option<(String, Tensor)>> {
    let (mut tensors, mut original) = (Vec::new(), None);
    let text = &model.config.text;
    for entry in model.parameters() {
        let Some(found) = Dialect::Bert.counterpart(&entry.name, 0) else { continue };
        if entry.name == TEXT_POSITIONS && text.positions == Positions::Zero {
            let first = entry
                .tensor
                .detach()
                .narrow(0, 0, 1)
                .expand([text.max_positions, text.hidden_size], false)
                .contiguous();
            tensors.push((bert::POSITIONS.to_string(), first));
            original = Some((entry.name.clone(), entry.tensor.shallow_clone()));
        } else {
            tensors.extend(found.scatter(&entry.tensor));
        }
    }
    tensors.push((bert::TYPES.into(), Tensor::zeros([2, text.hidden_size], (Kind::Float, model.device()))));
    let config = json!({
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": text.vocabulary, "hidden_size": text.hidden_size,
        "num_hidden_layers": text.num_layers, "num_attention_heads": text.num_heads, "intermediate_size": text.intermediate_size,
        "hidden_act": "gelu", "hidden_dropout_prob": text.dropout, "attention_probs_dropout_prob": text.dropout,
        "max_position_embeddings": text.max_positions, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "torch_dtype": "float32",
    });
    let tokenizer = json!({
        "tokenizer_class": "BertTokenizer", "do_lower_case": false, "model_max_length": text.max_tokens, "pad_token": "[PAD]",
        "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    });
    write_part(folder, &tensors, &[(CARD, &config), ("tokenizer_config.json", &tokenizer)])?;
    write_vocabulary(&folder.join(VOCABULARY), pieces)?;
    Ok(original)
}

/// Writes a vocabulary, one piece per line.
pub fn write_vocabulary(path: &Path, pieces: &WordPiece) -> Result<()> {
    let lines = (0..pieces.size() as u32)
        .filter_map(|id| pieces.piece(id))
        .fold(String::new(), |text, piece| text + piece + "\n");
    std::fs::write(path, lines).map_err(Error::io(path))
}

fn write_part(folder: &Path, tensors: &[(String, Tensor)], texts: &[(&str, &serde_json::Value)]) -> Result<()> {
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata = [("format".to_string(), "pt".to_string())].into();
    write_safetensors(&folder.join(MODEL), &named, Some(metadata))?;
    for (name, value) in texts {
        let path = folder.join(name);
        std::fs::write(&path, format!("{value:#}\n")).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Reads a folder that [`write()`] wrote.
///
/// # Errors
/// Parts that are missing, or no longer belong together.
pub fn read(folder: &Path) -> Result<Vec<Source>> {
    let mut rest = Source::read_file(&folder.join(REST), false)?;
    let card = rest.card.clone();
    let part = |name: &str| -> Result<Option<Source>> {
        let file = folder.join(name).join(MODEL);
        if !file.exists() {
            return Ok(None);
        }
        let mut source = Source::read_file(&file, true)?;
        // The card states all sizes and the origin of the weights.
        source.sizes = Sizes::default();
        source.card = card.clone();
        Ok(Some(source))
    };
    let (frontal, mut lateral, mut report) = (part(FRONTAL)?, part(LATERAL)?, part(REPORT)?);
    if let (Some(frontal), Some(lateral)) = (&frontal, &mut lateral) {
        lateral.dialect = Dialect::LateralImage;
        for (name, tensor) in &lateral.tensors {
            let expert =
                [".layernorm_after.", ".intermediate.", ".output.dense."].iter().any(|part| name.contains(part))
                    && !name.contains(".attention.");
            if !expert && frontal.tensors.get(name).is_none_or(|other| !other.equal(tensor)) {
                let message = format!(
                    "`{name}` differs from {FRONTAL}, but the two views must share all weights except the experts. \
                     Pass the path of one of the folders to convert only that one"
                );
                return Err(Error::Weights { path: lateral.path.clone(), message });
            }
        }
    }
    if let (Some(report), Some(positions)) = (&mut report, rest.tensors.remove(TEXT_POSITIONS)) {
        let same = report
            .tensors
            .get(bert::POSITIONS)
            .is_some_and(|table| table.size() == positions.size() && table.select(0, 0).equal(&positions.select(0, 0)));
        if !same {
            let message = format!("`{}` differs from the report encoder that {REST} was written with", bert::POSITIONS);
            return Err(Error::Weights { path: report.path.clone(), message });
        }
        report.tensors.insert(bert::POSITIONS.into(), positions);
    }
    Ok([Some(rest), frontal, lateral, report].into_iter().flatten().collect())
}
