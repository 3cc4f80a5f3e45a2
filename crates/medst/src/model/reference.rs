//! The reference implementation's checkpoints: names, shapes, and what is dropped.
//!
//! A Lightning file with weights under `state_dict`, or the same names as safetensors. The correspondence between its
//! names and ours is one table, used to import weights and to compare gradients; nothing else in the program knows those
//! names.

use std::collections::BTreeMap;
use std::fmt;

use tch::{Device, Kind, Tensor};

use super::MedSt;
use super::config::{ImageConfig, ModelConfig, Positions, ProjectionConfig, Semantics, TextConfig};
use super::weights::{TensorFile, summary};
use crate::{Error, Result};

/// Width of an attention head in ViT-B and BERT.
const HEAD_WIDTH: i64 = 64;

/// Tensors of the reference that stacked along their first axis (and cut to `rows`) make one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterpart {
    pub names: Vec<String>,
    /// Only this many leading rows are ours: the in-projection of an attention holds query, key and value rows, and the
    /// importance attentions use no values.
    pub leading_rows: Option<i64>,
}

/// What an import did, in the user's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Tensors of ours that were filled.
    pub taken: usize,
    /// Lateral experts filled with a copy of the frontal ones, because the file has none.
    pub copied_from_frontal: Vec<String>,
    /// Tensors of the file that the method does not use.
    pub dropped: Vec<String>,
}

impl Imported {
    /// The counts alone.
    pub fn brief(&self) -> String {
        let (taken, dropped) = (self.taken, self.dropped.len());
        match self.copied_from_frontal.len() {
            0 => format!("{taken} tensors taken, {dropped} unused ones dropped"),
            copied => format!(
                "{taken} tensors taken ({copied} lateral-expert ones copied from the frontal expert), {dropped} unused ones dropped"
            ),
        }
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.brief())?;
        for name in &self.dropped {
            writeln!(f, "  {name}")?;
        }
        Ok(())
    }
}

/// Where the tensor we call `name` stands in a reference checkpoint.
///
/// `None` for names that are not ours.
pub fn counterpart(name: &str, embedding: i64) -> Option<Counterpart> {
    let one = |name: String| Some(Counterpart { names: vec![name], leading_rows: None });
    let (part, rest) = name.split_once('.')?;
    let head = |prefix: &str| {
        let (layer, leaf) = rest.split_once('.')?;
        let index = match layer {
            "expand" => 0,
            "norm" => 1,
            "contract" => 3,
            "output_norm" => 4,
            _ => return None,
        };
        let leaf = match leaf {
            "mean" => "running_mean",
            "variance" => "running_var",
            leaf => leaf,
        };
        one(format!("{prefix}.head.{index}.{leaf}"))
    };
    let importance = |prefix: &str| {
        Some(Counterpart {
            names: vec![format!("{prefix}_element_wise_multi_head.in_proj_{rest}")],
            leading_rows: Some(2 * embedding),
        })
    };
    match part {
        "image_encoder" => one(format!("img_encoder_q.model.{}", image_name(rest))),
        "report_encoder" => report_names(rest),
        "image_global" => head("img_encoder_q.global_embed"),
        "patch_local" => head("img_encoder_q.local_embed"),
        "report_global" => head("text_encoder_q.global_embed"),
        "word_local" => head("text_encoder_q.local_embed"),
        "word_importance" => importance("word"),
        "patch_importance" => importance("patch"),
        _ => None,
    }
}

fn image_name(name: &str) -> String {
    let replacements = [
        ("class_token", "cls_token"),
        ("positions", "pos_embed"),
        ("patch_embedding", "patch_embed.proj"),
        ("attention.qkv", "attn.qkv"),
        ("attention.projection", "attn.proj"),
        ("frontal_expert.norm", "norm2"),
        ("frontal_expert.expand", "mlp.fc1"),
        ("frontal_expert.contract", "mlp.fc2"),
        ("lateral_expert.norm", "norm2_l"),
        ("lateral_expert.expand", "mlp_l.fc1"),
        ("lateral_expert.contract", "mlp_l.fc2"),
    ];
    for (ours, theirs) in replacements {
        if name.contains(ours) {
            return name.replace(ours, theirs);
        }
    }
    // What is left are norms: of a block before its attention, or of the encoder.
    if name.starts_with("blocks.") { name.replace(".norm.", ".norm1.") } else { name.to_string() }
}

fn report_names(name: &str) -> Option<Counterpart> {
    let model = "text_encoder_q.model";
    let one = |name: String| Some(Counterpart { names: vec![name], leading_rows: None });
    if let Some(rest) = name.strip_prefix("embeddings.") {
        return match rest {
            "words" => one(format!("{model}.embeddings.word_embeddings.weight")),
            "positions" => one(format!("{model}.embeddings.position_embeddings.weight")),
            rest => one(format!("{model}.embeddings.LayerNorm.{}", rest.strip_prefix("norm.")?)),
        };
    }
    let (number, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    let layer = format!("{model}.encoder.layer.{number}");
    let (path, leaf) = rest.rsplit_once('.')?;
    match path {
        "attention.qkv" => Some(Counterpart {
            names: ["query", "key", "value"].map(|part| format!("{layer}.attention.self.{part}.{leaf}")).to_vec(),
            leading_rows: None,
        }),
        "attention.projection" => one(format!("{layer}.attention.output.dense.{leaf}")),
        "attention.norm" => one(format!("{layer}.attention.output.LayerNorm.{leaf}")),
        "expand" => one(format!("{layer}.intermediate.dense.{leaf}")),
        "contract" => one(format!("{layer}.output.dense.{leaf}")),
        "norm" => one(format!("{layer}.output.LayerNorm.{leaf}")),
        _ => None,
    }
}

/// True for tensors that reference checkpoints hold and the method does not use.
fn is_unused(name: &str, text_layers: i64) -> bool {
    let dropped_layer = name
        .strip_prefix("text_encoder_q.model.encoder.layer.")
        .and_then(|rest| rest.split('.').next()?.parse::<i64>().ok())
        .is_some_and(|layer| layer >= text_layers);
    dropped_layer
        || name.contains("_embed_la.")
        || name.contains(".crossattention.")
        || name.contains(".pooler.")
        || name.contains("_local_atten_layer.")
        || name.contains("_element_wise_multi_head.out_proj.")
        || name.ends_with(".num_batches_tracked")
        || name.ends_with(".position_ids")
        || name.contains(".token_type_embeddings.")
}

/// True when a file holds the reference's names.
pub fn is_reference(file: &TensorFile) -> bool {
    file.tensors.contains_key("img_encoder_q.model.cls_token")
}

/// Fills a model from a reference checkpoint.
///
/// # Errors
/// Names every tensor that is missing, misshapen or unexplained; the model is unchanged then.
pub fn import(model: &mut MedSt, file: &TensorFile) -> Result<Imported> {
    let config = &model.config;
    let mut report = Imported::default();
    let mut problems = Vec::new();
    let mut used = std::collections::BTreeSet::new();
    let mut copies: Vec<(Tensor, Tensor)> = Vec::new();
    for entry in model.parameters().iter().chain(model.buffers()) {
        let Some(mut source) = counterpart(&entry.name, config.projection.embedding) else {
            problems.push(format!("`{}` has no counterpart", entry.name));
            continue;
        };
        if entry.name.contains("lateral_expert") && !file.tensors.contains_key(&source.names[0]) {
            report.copied_from_frontal.push(entry.name.clone());
            let frontal = entry.name.replace("lateral_expert", "frontal_expert");
            source = counterpart(&frontal, config.projection.embedding).unwrap_or(source);
        }
        match gather(&source, &file.tensors, &entry.tensor.size()) {
            Ok(tensor) => {
                used.extend(source.names);
                copies.push((entry.tensor.shallow_clone(), tensor));
            }
            Err(problem) => problems.push(problem),
        }
    }
    for name in file.tensors.keys().filter(|name| !used.contains(*name)) {
        if is_unused(name, config.text.layers) {
            report.dropped.push(name.clone());
        } else {
            problems.push(format!("`{name}` is not known to belong to a reference checkpoint"));
        }
    }
    if !problems.is_empty() {
        return Err(Error::Weights { path: file.path.clone(), message: summary(&problems) });
    }
    let _guard = tch::no_grad_guard();
    report.taken = copies.len();
    for (mut ours, theirs) in copies {
        ours.copy_(&theirs);
    }
    Ok(report)
}

/// The tensor of ours that a counterpart stands for, in our shape (1×1 convolutions lose their last axis).
///
/// # Errors
/// Says which name is missing or has which shape.
pub fn gather(source: &Counterpart, tensors: &BTreeMap<String, Tensor>, shape: &[i64]) -> Result<Tensor, String> {
    let mut parts = Vec::new();
    for name in &source.names {
        parts.push(tensors.get(name).ok_or_else(|| format!("`{name}` is missing"))?);
    }
    let mut whole = if parts.len() == 1 { parts[0].shallow_clone() } else { Tensor::cat(&parts, 0) };
    let found = whole.size();
    if let Some(rows) = source.leading_rows
        && found.first().is_some_and(|&first| first >= rows)
    {
        whole = whole.narrow(0, 0, rows);
    }
    let mut size = whole.size();
    if size.len() == shape.len() + 1 && size.last() == Some(&1) {
        size.pop();
    }
    if size != shape {
        let name = &source.names[0];
        return Err(format!("`{name}` has shape {found:?}, which does not make the {shape:?} of the configuration"));
    }
    Ok(whole.reshape(shape))
}

/// The configuration that a reference checkpoint was made with, read off its shapes. What shapes do not tell is taken from
/// the method: heads of width 64, three input channels, 112 tokens, the reference's semantics and zero positions.
///
/// # Errors
/// When a tensor that tells a size is missing.
pub fn configuration(file: &TensorFile) -> Result<ModelConfig> {
    let fail = |message: String| Error::Weights { path: file.path.clone(), message };
    let shape = |name: &str| {
        let tensor = file.tensors.get(name);
        tensor.map(Tensor::size).ok_or_else(|| fail(format!("not a reference checkpoint: `{name}` is missing")))
    };
    let count = |prefix: &str| {
        let numbers =
            file.tensors.keys().filter_map(|name| name.strip_prefix(prefix)?.split('.').next()?.parse::<i64>().ok());
        numbers.max().map_or(0, |last| last + 1)
    };
    let patch_kernel = shape("img_encoder_q.model.patch_embed.proj.weight")?;
    let positions = shape("img_encoder_q.model.pos_embed")?;
    let mlp = shape("img_encoder_q.model.blocks.0.mlp.fc1.weight")?;
    let words = shape("text_encoder_q.model.embeddings.word_embeddings.weight")?;
    let text_positions = shape("text_encoder_q.model.embeddings.position_embeddings.weight")?;
    let intermediate = shape("text_encoder_q.model.encoder.layer.0.intermediate.dense.weight")?;
    let expand = shape("img_encoder_q.global_embed.head.0.weight")?;
    let contract = shape("img_encoder_q.global_embed.head.3.weight")?;
    if patch_kernel.len() != 4 || positions.len() != 3 || words.len() != 2 || text_positions.is_empty() {
        return Err(fail("the shapes of its embeddings are not those of a vision transformer and a BERT".into()));
    }
    let patches_a_side = ((positions[1] - 1).max(0) as f64).sqrt().round() as i64;
    let heads = |width: i64| (width / HEAD_WIDTH).max(1);
    let config = ModelConfig {
        semantics: Semantics::Reference,
        initial_deviation: ModelConfig::default().initial_deviation,
        image: ImageConfig {
            size: patches_a_side * patch_kernel[3],
            patch: patch_kernel[3],
            width: patch_kernel[0],
            depth: count("img_encoder_q.model.blocks."),
            heads: heads(patch_kernel[0]),
            mlp: mlp[0],
        },
        text: TextConfig {
            vocabulary: words[0],
            width: words[1],
            layers: count("text_encoder_q.model.encoder.layer."),
            heads: heads(words[1]),
            intermediate: intermediate[0],
            max_positions: text_positions[0],
            max_tokens: text_positions[0].min(112),
            positions: Positions::Zero,
            ..TextConfig::default()
        },
        projection: ProjectionConfig { hidden: expand[0], embedding: contract[0] },
        ..ModelConfig::default()
    };
    config.validate()?;
    Ok(config)
}

/// Reads a reference checkpoint as a model of its own sizes.
///
/// # Errors
/// As [`configuration`] and [`import`]; and for widths that are no multiple of 64, whose number of heads nobody can tell.
pub fn load(file: &TensorFile, device: Device, kind: Kind) -> Result<(MedSt, Imported)> {
    let config = configuration(file)?;
    for width in [config.image.width, config.text.width] {
        if width % HEAD_WIDTH != 0 {
            let message = format!(
                "an encoder of width {width} does not tell its number of heads; start a run from the file instead, with \
                 init.weights and the sizes in the configuration"
            );
            return Err(Error::Weights { path: file.path.clone(), message });
        }
    }
    let mut model = MedSt::new(&config, 0, device, kind)?;
    let report = import(&mut model, file)?;
    Ok((model, report))
}
