//! A model into files: ours, the reference's names, a folder for transformers, ONNX graphs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use medst_data::files::folder::{Foreign, check_replaceable, publish_folder, recover, seal, stage_folder};
use medst_data::report::WordPiece;
use tch::{Kind, Tensor};

use super::fill::Filled;
use super::pickle::{self, Value};
use super::{Request, onnx, reference, transformers};
use crate::model::card::{CARD, MODEL, ModelCard, VOCABULARY};
use crate::model::config::{ModelConfig, Positions, Semantics, StemKind};
use crate::model::group::Group;
use crate::model::{MedSt, Parameter};
use crate::{Error, Result};

/// Files that earlier versions wrote without listing them.
const FILES: &[&str] = &[
    MODEL,
    CARD,
    VOCABULARY,
    transformers::REST,
    "frontal_image_encoder/model.safetensors",
    "frontal_image_encoder/config.json",
    "frontal_image_encoder/preprocessor_config.json",
    "lateral_image_encoder/model.safetensors",
    "lateral_image_encoder/config.json",
    "lateral_image_encoder/preprocessor_config.json",
    "report_encoder/model.safetensors",
    "report_encoder/config.json",
    "report_encoder/tokenizer_config.json",
    "report_encoder/vocab.txt",
    "README.md",
];

/// The format to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A medst folder: `model.safetensors`, `config.json`, and `vocab.txt` where the vocabulary is
    /// not the built-in one.
    #[default]
    Medst,
    /// One file with the reference's names, for `torch.load`.
    Reference,
    /// A folder whose parts `from_pretrained` opens.
    Transformers,
    /// A folder of graphs that ONNX Runtime and OpenVINO run.
    Onnx,
    /// A medst folder with its vocabulary, for a model hub; the command adds the model's card as
    /// `README.md`.
    Hub,
}

/// Writes a model; what is at `out` is replaced only when everything is written.
///
/// Returns notes for the user.
///
/// # Errors
/// Something at `request.out` already (unless `overwrite`), or files that cannot be written.
pub fn write(
    request: &Request,
    model: &MedSt,
    card: &ModelCard,
    pieces: &WordPiece,
    filled: &Filled,
) -> Result<Vec<String>> {
    let Request { out, to: target, overwrite, half, .. } = request;
    let (target, overwrite, half) = (*target, *overwrite, *half);
    check_free(out, overwrite)?;
    if matches!(target, Target::Reference | Target::Transformers) && model.config.image.stem == StemKind::Convolutions {
        return Err(Error::Input(
            "a model with a convolutional stem (model.image.stem) can only be written with --to medst, --to hub or --to onnx: \
             vision transformers of other programs have none"
                .into(),
        ));
    }
    if target == Target::Reference {
        if out.is_dir() {
            return Err(Error::Input(format!("{} is a folder; --to reference writes a single file", out.display())));
        }
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        return write_reference(out, model, card);
    }
    let staged = stage_folder(out, 0o777)?;
    let notes = match target {
        Target::Transformers => transformers::write(staged.path(), model, card, pieces, filled)?,
        Target::Onnx => onnx::write(staged.path(), model, card, pieces, filled, request.int8)?,
        _ => {
            match half {
                true => model.save_half(&staged.path().join(MODEL), card)?,
                false => model.save(&staged.path().join(MODEL), Some(card))?,
            }
            let path = staged.path().join(CARD);
            let text = serde_json::to_string_pretty(card).expect("a card has no keys but text");
            fs::write(&path, text).map_err(Error::io(&path))?;
            if target == Target::Hub || pieces.checksum() != WordPiece::bert_cased().checksum() {
                transformers::write_vocabulary(&staged.path().join(VOCABULARY), pieces)?;
            }
            Vec::new()
        }
    };
    seal(staged.path(), &BTreeMap::new())?;
    publish_folder(staged.path(), out, FILES, Foreign::Refuse)?;
    let _ = staged.keep();
    Ok(notes)
}

/// Refuses to replace an existing target, except with `overwrite` if this command made it.
///
/// # Errors
/// A path that is in the way.
pub fn check_free(out: &Path, overwrite: bool) -> Result<()> {
    recover(out)?;
    if !out.exists() {
        return Ok(());
    }
    let fail = |message: &str| Err(Error::Input(format!("{}: {message}", out.display())));
    if !overwrite {
        return fail("already exists; pass --overwrite to replace it");
    }
    let marks: [PathBuf; 5] = [
        out.join(MODEL),
        out.join(transformers::REST),
        out.join(transformers::FRONTAL),
        out.join(transformers::REPORT),
        out.join(onnx::GRAPHS),
    ];
    let run = out.join("checkpoints").exists() || out.join("state.json").exists();
    let ours = out.is_file() || (marks.iter().any(|mark| mark.exists()) && !run);
    if !ours {
        return fail("was not made by medst convert and is not replaced");
    }
    if out.is_dir() { Ok(check_replaceable(out, FILES)?) } else { Ok(()) }
}

/// The reference's names, as a Lightning checkpoint without an optimiser.
fn write_reference(path: &Path, model: &MedSt, card: &ModelCard) -> Result<Vec<String>> {
    let config = &model.config;
    // The head is not written to the file, so the card must not promise readers one.
    let card = ModelCard { model: ModelConfig { head: None, ..card.model.clone() }, ..card.clone() };
    let mut entries: Vec<(String, Value)> = Vec::new();
    let (beyond, within): (Vec<&Parameter>, Vec<&Parameter>) =
        model.parameters().iter().chain(model.buffers()).partition(|entry| {
            matches!(Group::from_name(&entry.name), Some(Group::FindingHeads | Group::Contrast | Group::TaskHead))
        });
    for entry in within {
        let found = reference::counterpart(&entry.name, config.projection.embedding)
            .expect("every tensor of a model has a name in the reference");
        entries.extend(found.scatter(&entry.tensor).into_iter().map(|(name, tensor)| (name, Value::Tensor(tensor))));
    }
    let fillers = fillers(config);
    let count = fillers.len();
    entries.extend(fillers);
    let root = [
        ("state_dict".to_string(), Value::Dictionary(entries)),
        ("epoch".to_string(), Value::Number(0)),
        ("global_step".to_string(), Value::Number(card.step as i64)),
        ("pytorch-lightning_version".to_string(), Value::Text("1.5.10".into())),
        (ModelCard::KEY.to_string(), Value::Text(card.to_json())),
    ];
    pickle::save(path, &root)?;
    let mut notes = vec![format!(
        "{count} constant tensors added: the reference implementation loads them (strict=True) but does not use them"
    )];
    if config.semantics == Semantics::Corrected {
        notes.push(
            "the model was trained with model.semantics = \"corrected\"; the reference implementation \
                    computes model.semantics = \"reference\""
                .into(),
        );
    }
    if config.text.positions == Positions::Sequential {
        notes.push(
            "the model has sequential text positions; the reference implementation gives every token position 0".into(),
        );
    }
    if !beyond.is_empty() {
        let names: Vec<&str> = beyond.iter().map(|entry| entry.name.as_str()).collect();
        notes.push(format!("left out, because the reference implementation has no such layers: {}", names.join(", ")));
    }
    if config.image.epsilon != 1e-6 {
        let epsilon = config.image.epsilon;
        notes.push(format!(
            "the model's layer norms have epsilon {epsilon:e}, those of the reference implementation 1e-6"
        ));
    }
    Ok(notes)
}

/// Tensors of the reference's modules that its forward pass does not use: zeros, and ones where
/// they scale or are variances.
fn fillers(config: &ModelConfig) -> Vec<(String, Value)> {
    let (image, text) = (config.image.hidden_size, config.text.hidden_size);
    let (hidden, embedding) = (config.projection.hidden, config.projection.embedding);
    let mut entries: Vec<(String, Value)> = Vec::new();
    let zeros = |name: String, shape: &[i64]| (name, Value::Constant(0.0, shape.to_vec()));
    let ones = |name: String, shape: &[i64]| (name, Value::Constant(1.0, shape.to_vec()));
    let counter = |name: String| (name, Value::Tensor(Tensor::zeros([0i64; 0], (Kind::Int64, tch::Device::Cpu))));
    for encoder in ["img_encoder_q", "text_encoder_q"] {
        for head in ["global_embed", "local_embed"] {
            entries.extend([1, 4].map(|layer| counter(format!("{encoder}.{head}.head.{layer}.num_batches_tracked"))));
        }
    }
    for (head, kernel) in [("global_embed_la", &[][..]), ("local_embed_la", &[1][..])] {
        let at = |leaf: &str| format!("img_encoder_q.{head}.head.{leaf}");
        let matrix = |rows: i64, columns: i64| [&[rows, columns], kernel].concat();
        entries.extend([
            zeros(at("0.weight"), &matrix(hidden, image)),
            zeros(at("0.bias"), &[hidden]),
            ones(at("1.weight"), &[hidden]),
            zeros(at("1.bias"), &[hidden]),
            zeros(at("1.running_mean"), &[hidden]),
            ones(at("1.running_var"), &[hidden]),
            counter(at("1.num_batches_tracked")),
            zeros(at("3.weight"), &matrix(embedding, hidden)),
            zeros(at("3.bias"), &[embedding]),
            zeros(at("4.running_mean"), &[embedding]),
            ones(at("4.running_var"), &[embedding]),
            counter(at("4.num_batches_tracked")),
        ]);
    }
    let model = |name: &str| format!("text_encoder_q.model.{name}");
    let positions = Tensor::arange(config.text.max_positions, (Kind::Int64, tch::Device::Cpu)).unsqueeze(0);
    entries.push((model("embeddings.position_ids"), Value::Tensor(positions)));
    for layer in 0..config.text.num_layers {
        let at = |leaf: &str| model(&format!("encoder.layer.{layer}.crossattention.{leaf}"));
        for dense in ["self.query", "self.key", "self.value", "output.dense"] {
            entries.push(zeros(at(&format!("{dense}.weight")), &[text, text]));
            entries.push(zeros(at(&format!("{dense}.bias")), &[text]));
        }
        entries.push(ones(at("output.LayerNorm.weight"), &[text]));
        entries.push(zeros(at("output.LayerNorm.bias"), &[text]));
    }
    entries.push(zeros(model("pooler.dense.weight"), &[text, text]));
    entries.push(zeros(model("pooler.dense.bias"), &[text]));
    for side in ["word", "patch"] {
        let attention = format!("{side}_local_atten_layer");
        entries.push(zeros(format!("{attention}.in_proj_weight"), &[3 * embedding, embedding]));
        entries.push(zeros(format!("{attention}.in_proj_bias"), &[3 * embedding]));
        for attention in [attention, format!("{side}_element_wise_multi_head")] {
            entries.push(zeros(format!("{attention}.out_proj.weight"), &[embedding, embedding]));
            entries.push(zeros(format!("{attention}.out_proj.bias"), &[embedding]));
        }
    }
    entries
}
