//! The reference implementation's checkpoints: names, shapes, and what is dropped. MGCA's have the
//! same names, without lateral experts and importance attentions.
//!
//! A Lightning file with weights under `state_dict`, or the same names as safetensors. The
//! correspondence between its names and ours is one table, used to import and export weights and to
//! compare gradients; nothing else in the program knows those names.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::counterpart::Counterpart;
use super::fill::{self, Filled};
use super::source::Source;
use super::{bert, vit};
use crate::model::MedSt;
use crate::model::card::{CARD, MODEL};
use crate::model::config::{ImageConfig, ModelConfig, Positions, ProjectionConfig, Semantics, TextConfig};
use crate::model::group::Side;
use crate::model::weights::TensorFile;
use crate::{Error, Result};

/// Width of an attention head in ViT-B and BERT.
pub const HEAD_WIDTH: i64 = 64;

const IMAGE: &str = "img_encoder_q.model.";
const TEXT: &str = "text_encoder_q.model.";

/// The counterpart in a reference checkpoint of our tensor `name`.
///
/// `None` for names that our model does not have.
pub fn counterpart(name: &str, embedding: i64) -> Option<Counterpart> {
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
        let theirs = match leaf {
            "mean" => "running_mean",
            "variance" => "running_var",
            leaf => leaf,
        };
        let mut found = Counterpart::one(format!("{prefix}.head.{index}.{theirs}"));
        // The local heads are 1×1 convolutions there.
        found.convolution = prefix.ends_with("local_embed") && matches!(index, 0 | 3) && leaf == "weight";
        Some(found)
    };
    let importance = |prefix: &str| {
        let mut found = Counterpart::one(format!("{prefix}_element_wise_multi_head.in_proj_{rest}"));
        found.leading_rows = Some(2 * embedding);
        Some(found)
    };
    let below = |prefix: &str, mut found: Counterpart| {
        found.names.iter_mut().for_each(|name| name.insert_str(0, prefix));
        found
    };
    match part {
        "image_encoder" => vit::timm(rest, true).map(|found| below(IMAGE, found)),
        "report_encoder" => bert::counterpart(rest).map(|found| below(TEXT, found)),
        "image_global" => head("img_encoder_q.global_embed"),
        "patch_local" => head("img_encoder_q.local_embed"),
        "report_global" => head("text_encoder_q.global_embed"),
        "word_local" => head("text_encoder_q.local_embed"),
        "word_importance" => importance("word"),
        "patch_importance" => importance("patch"),
        _ => None,
    }
}

/// Why the method does not use a tensor of a checkpoint; `None` where no reason is known.
pub fn unused(name: &str, text_layers: i64) -> Option<&'static str> {
    let text = name.strip_prefix(TEXT).and_then(|name| bert::unused(name, text_layers, true));
    let reasons = [
        (name.contains("_embed_la."), "projections of lateral views, not used"),
        (name.contains("_local_atten_layer."), "an attention layer, not used"),
        (name.contains("_element_wise_multi_head.out_proj."), "output projections of importance attentions, not used"),
        (name.starts_with("prototype_layer."), "prototypes of MGCA"),
        (name.ends_with(".num_batches_tracked"), "counters"),
    ];
    text.or_else(|| reasons.into_iter().find_map(|(found, reason)| found.then_some(reason)))
}

/// Which side of the model a tensor belongs to.
pub fn side(name: &str) -> Side {
    if name.starts_with("text_encoder_q.") || name.starts_with("word_") { Side::Text } else { Side::Image }
}

/// Whether a file uses the reference's names.
pub fn is_reference(tensors: &BTreeMap<String, Tensor>) -> bool {
    tensors.keys().any(|name| name.starts_with(IMAGE) || name.starts_with(TEXT))
}

/// Fills a model from a reference checkpoint.
///
/// # Errors
/// Names every tensor that is missing, misshapen or unexplained; the model is unchanged then.
pub fn import(model: &mut MedSt, file: &TensorFile) -> Result<Filled> {
    fill::fill(model, vec![Source::reference(file)?])
}

/// The configuration that a reference checkpoint was made with, inferred from its shapes. What
/// shapes do not show is taken from the method: three input channels, 112 tokens, the reference's
/// semantics and zero positions; heads of width 64, and 0 heads where the width is not a multiple
/// of it.
///
/// # Errors
/// When a tensor that determines a size is missing.
pub fn configuration(file: &TensorFile) -> Result<ModelConfig> {
    let fail = |message: String| Error::Weights { path: file.path.clone(), message };
    let below = |prefix: &str| -> BTreeMap<&str, Vec<i64>> {
        let tensors = file.tensors.iter();
        tensors.filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor.size()))).collect()
    };
    let projection = below("img_encoder_q.global_embed.head.");
    let size = |name: &str| {
        let shape = projection.get(name).filter(|shape| shape.len() == 2);
        shape.map(|shape| shape[0]).ok_or_else(|| fail(format!("`img_encoder_q.global_embed.head.{name}` is missing")))
    };
    let text = bert::sizes(&below(TEXT)).map_err(|misfit| fail(misfit.to_string()))?;
    let image = vit::sizes_of_timm(&below(IMAGE)).map_err(|misfit| fail(misfit.to_string()))?;
    // Both encoders of the method have heads of one width.
    let heads = |width: i64| if width % HEAD_WIDTH == 0 { width / HEAD_WIDTH } else { 0 };
    Ok(ModelConfig {
        semantics: Semantics::Reference,
        image: ImageConfig { epsilon: 1e-6, num_heads: heads(image.hidden_size), ..image },
        text: TextConfig { positions: Positions::Zero, num_heads: heads(text.hidden_size), ..text },
        projection: ProjectionConfig { hidden: size("0.weight")?, embedding: size("3.weight")? },
        ..ModelConfig::default()
    })
}

/// Reads a reference checkpoint as a model of the checkpoint's sizes.
///
/// # Errors
/// Like [`configuration`] and [`import`]; also a file with other names, and a width that is not a
/// multiple of 64, for which the number of heads cannot be inferred.
pub fn load(file: &TensorFile, device: Device, kind: Kind) -> Result<(MedSt, Filled)> {
    if !is_reference(&file.tensors) {
        let message = format!(
            "neither a medst model with its card (in the head of the file, or as {CARD} next to {MODEL}) nor a \
             checkpoint of the reference implementation; convert weights of other programs with medst convert"
        );
        return Err(Error::Weights { path: file.path.clone(), message });
    }
    let config = configuration(file)?;
    for (width, heads) in
        [(config.image.hidden_size, config.image.num_heads), (config.text.hidden_size, config.text.num_heads)]
    {
        if heads == 0 {
            let message = format!(
                "cannot infer the number of attention heads of an encoder of width {width}; convert the file first (medst convert \
                 FILE --set model.image.num_heads=N --set model.text.num_heads=N …), or start a run from it with init.weights"
            );
            return Err(Error::Weights { path: file.path.clone(), message });
        }
    }
    let mut model = MedSt::unwritten(&config, device, kind)?;
    let report = import(&mut model, file)?;
    Ok((model, report))
}
