//! Vision transformers in the names of timm (DeiT, MAE, DINOv2's own files), of transformers' ViT
//! and of its DINOv2 (RAD-DINO).
//!
//! What they have and our encoder lacks is folded into the weights, where it is a linear map next
//! to another linear map:
//! * layer scale (`ls1.gamma`, `layer_scale1.lambda1`) multiplies the rows of the matrix in front
//!   of it;
//! * another pixel normalisation than our `(x − 0.5)/0.5` is an affine map of the patch embedding's
//!   input;
//! * a table of positions without an entry for `[CLS]` gets one of zeros; missing biases of q, k
//!   and v are zeros;
//! * a patch embedding of one channel acts on the first of three equal ones.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::Misfit;
use super::counterpart::Counterpart;
use crate::model::config::ImageConfig;

/// Files whose names differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Timm,
    /// transformers' `ViTModel`.
    Vit,
    /// transformers' `Dinov2Model`.
    Dinov2,
}

/// One of our tensors, below `image_encoder`.
enum Place<'a> {
    ClassToken,
    Positions,
    PatchEmbedding(&'a str),
    Norm(&'a str),
    Block { number: &'a str, layer: Layer, leaf: &'a str },
}

enum Layer {
    AttentionNorm,
    Qkv,
    Projection,
    Frontal(Part),
    Lateral(Part),
}

enum Part {
    Norm,
    Expand,
    Contract,
}

fn place(name: &str) -> Option<Place<'_>> {
    if let Some(rest) = name.strip_prefix("blocks.") {
        let (number, rest) = rest.split_once('.')?;
        let (path, leaf) = rest.rsplit_once('.')?;
        let part = |name: &str| match name {
            "norm" => Some(Part::Norm),
            "expand" => Some(Part::Expand),
            "contract" => Some(Part::Contract),
            _ => None,
        };
        let layer = match path {
            "norm" => Layer::AttentionNorm,
            "attention.qkv" => Layer::Qkv,
            "attention.projection" => Layer::Projection,
            _ => match path.split_once('.')? {
                ("frontal_expert", name) => Layer::Frontal(part(name)?),
                ("lateral_expert", name) => Layer::Lateral(part(name)?),
                _ => return None,
            },
        };
        return Some(Place::Block { number, layer, leaf });
    }
    match name {
        "class_token" => Some(Place::ClassToken),
        "positions" => Some(Place::Positions),
        _ => match name.split_once('.')? {
            ("patch_embedding", leaf) => Some(Place::PatchEmbedding(leaf)),
            ("norm", leaf) => Some(Place::Norm(leaf)),
            _ => None,
        },
    }
}

/// timm's name; with `lateral` the reference's names of lateral experts too.
pub fn timm(name: &str, lateral: bool) -> Option<Counterpart> {
    Some(Counterpart::one(match place(name)? {
        Place::ClassToken => "cls_token".into(),
        Place::Positions => "pos_embed".into(),
        Place::PatchEmbedding(leaf) => format!("patch_embed.proj.{leaf}"),
        Place::Norm(leaf) => format!("norm.{leaf}"),
        Place::Block { number, layer, leaf } => {
            let path = match layer {
                Layer::AttentionNorm => "norm1",
                Layer::Qkv => "attn.qkv",
                Layer::Projection => "attn.proj",
                Layer::Frontal(Part::Norm) => "norm2",
                Layer::Frontal(Part::Expand) => "mlp.fc1",
                Layer::Frontal(Part::Contract) => "mlp.fc2",
                Layer::Lateral(_) if !lateral => return None,
                Layer::Lateral(Part::Norm) => "norm2_l",
                Layer::Lateral(Part::Expand) => "mlp_l.fc1",
                Layer::Lateral(Part::Contract) => "mlp_l.fc2",
            };
            format!("blocks.{number}.{path}.{leaf}")
        }
    }))
}

/// The name in transformers' ViT (or, with `dinov2`, DINOv2); lateral experts have none.
pub fn transformers(name: &str, dinov2: bool) -> Option<Counterpart> {
    let path = |vit: &'static str, dino: &'static str| if dinov2 { dino } else { vit };
    Some(Counterpart::one(match place(name)? {
        Place::ClassToken => "embeddings.cls_token".into(),
        Place::Positions => "embeddings.position_embeddings".into(),
        Place::PatchEmbedding(leaf) => format!("embeddings.patch_embeddings.projection.{leaf}"),
        Place::Norm(leaf) => format!("layernorm.{leaf}"),
        Place::Block { number, layer, leaf } => {
            let block = format!("encoder.layer.{number}");
            let path = match layer {
                Layer::AttentionNorm => path("layernorm_before", "norm1"),
                Layer::Qkv => {
                    let names =
                        ["query", "key", "value"].map(|part| format!("{block}.attention.attention.{part}.{leaf}"));
                    return Some(Counterpart::stacked(names.to_vec()));
                }
                Layer::Projection => "attention.output.dense",
                Layer::Frontal(Part::Norm) => path("layernorm_after", "norm2"),
                Layer::Frontal(Part::Expand) => path("intermediate.dense", "mlp.fc1"),
                Layer::Frontal(Part::Contract) => path("output.dense", "mlp.fc2"),
                Layer::Lateral(_) => return None,
            };
            format!("{block}.{path}.{leaf}")
        }
    }))
}

impl Family {
    pub fn counterpart(self, name: &str) -> Option<Counterpart> {
        match self {
            Family::Timm => timm(name, false),
            Family::Vit => transformers(name, false),
            Family::Dinov2 => transformers(name, true),
        }
    }

    fn patch_kernel(self) -> &'static str {
        match self {
            Family::Timm => "patch_embed.proj.weight",
            _ => "embeddings.patch_embeddings.projection.weight",
        }
    }

    fn positions(self) -> &'static str {
        if self == Family::Timm { "pos_embed" } else { "embeddings.position_embeddings" }
    }

    fn block(self) -> &'static str {
        if self == Family::Timm { "blocks." } else { "encoder.layer." }
    }
}

/// Renames blocks that were saved in chunks, as DINOv2 trains them (`blocks.0.3.norm1.weight`: the
/// fourth block, in the first chunk). Returns a note for the user if there were any.
///
/// # Errors
/// Chunks whose blocks are not numbered like those of DINOv2, through all chunks.
pub fn join_chunks(tensors: &mut BTreeMap<String, Tensor>) -> Result<Option<String>, Misfit> {
    let parse = |name: &str| -> Option<(u32, u32, String)> {
        let mut parts = name.strip_prefix("blocks.")?.splitn(3, '.');
        let mut number = || parts.next()?.parse::<u32>().ok();
        let (chunk, block) = (number()?, number()?);
        Some((chunk, block, parts.next()?.to_string()))
    };
    let chunked: Vec<(String, (u32, u32, String))> =
        tensors.keys().filter_map(|name| Some((name.clone(), parse(name)?))).collect();
    if chunked.is_empty() {
        return Ok(None);
    }
    let mut chunk_of: BTreeMap<u32, u32> = BTreeMap::new();
    for (name, (chunk, block, rest)) in chunked {
        let known = *chunk_of.entry(block).or_insert(chunk);
        let joined = format!("blocks.{block}.{rest}");
        if known != chunk || tensors.contains_key(&joined) {
            return Err(Misfit::Shape(format!(
                "`{name}` is in block {block} of chunk {chunk}, but chunk {known} has this block too; blocks must \
                 be numbered across chunks, as in DINOv2 (save the model with block_chunks=0)"
            )));
        }
        if let Some(tensor) = tensors.remove(&name) {
            tensors.insert(joined, tensor);
        }
    }
    let (blocks, chunks) = (chunk_of.len(), chunk_of.values().collect::<std::collections::BTreeSet<_>>().len());
    Ok(Some(format!("{blocks} blocks in {chunks} chunks (blocks.CHUNK.BLOCK) renamed to a single list")))
}

/// Why a tensor of a file is not used; `None` where no reason is known.
pub fn unused(name: &str) -> Option<&'static str> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let reasons = [
        (starts(&["head.", "classifier.", "fc.", "pre_logits."]), "a classification head"),
        (starts(&["pooler."]), "the pooler; the image feature is the [CLS] state itself"),
        (
            starts(&["decoder", "mask_token"]) || name == "embeddings.mask_token",
            "parts used only in masked pre-training",
        ),
    ];
    reasons.into_iter().find_map(|(found, reason)| found.then_some(reason))
}

/// Why the method has no place for a tensor; `None` where no reason is known.
fn inexpressible(name: &str) -> Option<&'static str> {
    let reasons: [(&[&str], &str); 9] = [
        (
            &["dist_token", "distillation_token", "head_dist", "distillation_classifier"],
            "distillation tokens are not supported (DeiT weights without them are)",
        ),
        (&["reg_token", "register_tokens"], "register tokens are not supported"),
        (&["fc_norm"], "averaging patches is not supported; the image feature is the [CLS] state"),
        (&["norm_pre", "ln_pre"], "a layer norm before the first block is not supported"),
        (&["q_norm", "k_norm", ".attn.norm."], "normalised queries and keys are not supported"),
        (&["rel_pos", "relative_position", "rope"], "relative or rotary positions are not supported"),
        (&["w12", "w3", "weights_in", "weights_out", "fc1_g", "fc1_x"], "a gated (SwiGLU) MLP is not supported"),
        (&["attn_pool"], "attention pooling is not supported"),
        (
            &["patch_embed.backbone", "patch_embed.norm", "patch_embed.proj.0"],
            "patches that are not embedded by a single linear layer are not supported",
        ),
    ];
    reasons.into_iter().find_map(|(parts, reason)| parts.iter().any(|part| name.contains(part)).then_some(reason))
}

/// Sizes by the shapes of timm's names.
///
/// # Errors
/// Names what is missing or has no shape of a vision transformer.
pub fn sizes_of_timm(shapes: &BTreeMap<&str, Vec<i64>>) -> Result<ImageConfig, Misfit> {
    sizes(Family::Timm, shapes)
}

/// Sizes by shapes; heads are 0, since no shape depends on them.
///
/// # Errors
/// Names what is missing or has no shape of a vision transformer.
pub fn sizes(family: Family, shapes: &BTreeMap<&str, Vec<i64>>) -> Result<ImageConfig, Misfit> {
    // Checked before missing tensors and wrong shapes, because its message explains more.
    if let Some((name, reason)) = shapes.keys().find_map(|name| Some((name, inexpressible(name)?))) {
        return Err(Misfit::Unsupported(format!("`{name}`: {reason}")));
    }
    let find = |name: &str, axes: usize| match shapes.get(name) {
        Some(shape) if shape.len() == axes => Ok(shape),
        Some(shape) => Err(Misfit::Shape(format!("`{name}` has shape {shape:?}, expected {axes} axes"))),
        None => Err(Misfit::Missing(name.to_string())),
    };
    let (kernel, positions) = (find(family.patch_kernel(), 4)?, find(family.positions(), 3)?);
    let first = format!("{}0.", family.block());
    let expand = match family {
        Family::Vit => format!("{first}intermediate.dense.weight"),
        _ => format!("{first}mlp.fc1.weight"),
    };
    let contract = match family {
        Family::Vit => format!("{first}output.dense.weight"),
        _ => format!("{first}mlp.fc2.weight"),
    };
    let mlp = find(&expand, 2)?[0];
    if find(&contract, 2)?[1] * 2 == mlp {
        return Err(Misfit::Unsupported(format!(
            "`{expand}` has twice as many rows as `{contract}` has columns: a gated (SwiGLU) MLP is not supported"
        )));
    }
    if kernel[2] != kernel[3] || !matches!(kernel[1], 1 | 3) {
        return Err(Misfit::Shape(format!(
            "`{}` has shape {kernel:?}; patches must be square and have 1 or 3 channels",
            family.patch_kernel()
        )));
    }
    // With an entry for `[CLS]`, or (as in DeiT III) without.
    let entries = positions[1];
    let side = square_side(entries - 1).or_else(|| square_side(entries)).ok_or_else(|| {
        let message =
            format!("`{}` has {entries} entries, which is not a square number of patches", family.positions());
        Misfit::Shape(message)
    })?;
    Ok(ImageConfig {
        size: side * kernel[3],
        patch: kernel[3],
        hidden_size: kernel[0],
        num_layers: super::numbered(shapes.keys().copied(), family.block()),
        num_heads: 0,
        intermediate_size: mlp,
        ..ImageConfig::default()
    })
}

/// Mean and deviation of each channel that pixels in `[0, 1]` are normalised with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pixels {
    pub mean: [f64; 3],
    pub deviation: [f64; 3],
}

impl Pixels {
    /// `(x − 0.5)/0.5`, which the model computes itself.
    pub const OURS: Pixels = Pixels { mean: [0.5; 3], deviation: [0.5; 3] };
}

/// Folds what our encoder lacks into the weights; returns notes for the user.
///
/// # Errors
/// Shapes that do not fit together.
pub fn fold(
    family: Family,
    tensors: &mut BTreeMap<String, Tensor>,
    config: &ImageConfig,
    pixels: Option<Pixels>,
) -> Result<Vec<String>, Misfit> {
    let mut folded = Vec::new();
    let mut scaled = 0;
    for number in 0..config.num_layers {
        let block = format!("{}{number}.", family.block());
        let scales: [(&str, &str); 2] = match family {
            Family::Timm => [("ls1.gamma", "attn.proj"), ("ls2.gamma", "mlp.fc2")],
            Family::Vit => [("", ""), ("", "")],
            Family::Dinov2 => [("layer_scale1.lambda1", "attention.output.dense"), ("layer_scale2.lambda1", "mlp.fc2")],
        };
        for (scale, layer) in scales.into_iter().filter(|(scale, _)| !scale.is_empty()) {
            let Some(scale) = tensors.remove(&format!("{block}{scale}")) else { continue };
            for leaf in ["weight", "bias"] {
                let name = format!("{block}{layer}.{leaf}");
                let Some(tensor) = tensors.get(&name) else { return Err(Misfit::Missing(name.to_string())) };
                let factor = if leaf == "weight" { scale.unsqueeze(-1) } else { scale.shallow_clone() };
                if tensor.size()[0] != scale.size()[0] || scale.dim() != 1 {
                    return Err(Misfit::Shape(format!(
                        "`{name}` has shape {:?}, which does not fit its layer scale of shape {:?}",
                        tensor.size(),
                        scale.size()
                    )));
                }
                let product = tensor * factor;
                tensors.insert(name, product);
            }
            scaled += 1;
        }
    }
    if scaled > 0 {
        folded.push(format!("{scaled} layer scales folded into the preceding matrices"));
    }
    let missing = missing_biases(family, tensors, config);
    if !missing.is_empty() {
        folded.push(format!("{} missing biases of queries, keys and values set to zero", missing.len()));
        tensors.extend(missing);
    }
    if let Some(positions) = tensors.get(family.positions())
        && positions.dim() == 3
        && square_side(positions.size()[1]).is_some()
    {
        let with_class = positions.constant_pad_nd([0, 0, 1, 0]);
        tensors.insert(family.positions().into(), with_class);
        folded.push("missing position embedding of [CLS] set to zero".into());
    }
    if let Some(kernel) = tensors.get(family.patch_kernel())
        && kernel.dim() == 4
    {
        let mut kernel = kernel.shallow_clone();
        if kernel.size()[1] == 1 {
            kernel = kernel.constant_pad_nd([0, 0, 0, 0, 0, 2]);
            folded.push("patch embedding with one channel applied to the first of three equal channels".into());
        }
        if let Some(pixels) = pixels.filter(|&pixels| pixels != Pixels::OURS) {
            let name = family.patch_kernel().replace("weight", "bias");
            let bias = tensors.get(&name).ok_or_else(|| Misfit::Missing(name.to_string()))?;
            let (scaled, bias) = fold_pixels(&kernel, bias, pixels);
            kernel = scaled;
            tensors.insert(name, bias);
            let Pixels { mean, deviation } = pixels;
            folded.push(format!(
                "normalisation with pixel mean {mean:?} and standard deviation {deviation:?} folded into the patch \
                 embedding"
            ));
        }
        tensors.insert(family.patch_kernel().into(), kernel);
    }
    Ok(folded)
}

/// The side of a square with this number of patches.
pub fn square_side(patches: i64) -> Option<i64> {
    let side = (patches.max(0) as f64).sqrt().round() as i64;
    (side > 0 && side * side == patches).then_some(side)
}

fn missing_biases(family: Family, tensors: &BTreeMap<String, Tensor>, config: &ImageConfig) -> Vec<(String, Tensor)> {
    let mut missing = Vec::new();
    for number in 0..config.num_layers {
        let names = family
            .counterpart(&format!("blocks.{number}.attention.qkv.weight"))
            .map_or(Vec::new(), |found| found.names);
        for weight in names {
            let bias = weight.replace("weight", "bias");
            if let Some(weight) = tensors.get(&weight).filter(|_| !tensors.contains_key(&bias)) {
                missing.push((bias, Tensor::zeros([weight.size()[0]], (weight.kind(), weight.device()))));
            }
        }
    }
    missing
}

/// The patch embedding `(W, b)` of pixels normalised by `pixels` as one of pixels normalised our
/// way.
fn fold_pixels(kernel: &Tensor, bias: &Tensor, pixels: Pixels) -> (Tensor, Tensor) {
    // Ours: u = (p − 0.5)/0.5. Theirs: v = (p − m)/s = u·(0.5/s) + (0.5 − m)/s.
    let column = |values: [f64; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]);
    let each = |of: fn(f64, f64) -> f64| [0, 1, 2].map(|c| of(pixels.mean[c], pixels.deviation[c]));
    let (factor, shift) = (column(each(|_, s| 0.5 / s)), column(each(|m, s| (0.5 - m) / s)));
    let exact = kernel.to_kind(Kind::Double);
    let offset = (&exact * shift).sum_dim_intlist(&[1i64, 2, 3][..], false, None::<Kind>);
    ((exact * factor).to_kind(kernel.kind()), (bias.to_kind(Kind::Double) + offset).to_kind(bias.kind()))
}
