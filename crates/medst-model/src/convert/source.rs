//! A file of weights, recognised: whose names it has, what sizes, and how its tensors become ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use medst_data::hub;
use serde::Serialize;
use tch::{Kind, Tensor};

use super::counterpart::Counterpart;
use super::library::{self, LibraryConfig};
use super::vit::{Family, Pixels};
use super::{Misfit, bert, reference, transformers, vit};
use crate::model::builtin;
use crate::model::card::{CARD, MODEL, ModelCard, Origin};
use crate::model::config::{ImageConfig, ModelConfig, Semantics, TextConfig};
use crate::model::group::{Group, Side};
use crate::model::weights::TensorFile;
use crate::weights_input::{EncoderPart, Input};
use crate::{Error, Result};

/// A family of files with the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Medst,
    /// The reference implementation, and MGCA.
    Reference,
    Image(Family),
    /// transformers' ViT, of which only the experts are taken, as lateral ones.
    LateralImage,
    Bert,
}

impl Dialect {
    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Dialect::Medst => "medst",
            Dialect::Reference => "the reference implementation (or MGCA)",
            Dialect::Image(Family::Timm) => "a vision transformer of timm",
            Dialect::Image(Family::Vit) => "a ViT of transformers",
            Dialect::Image(Family::Dinov2) => "a DINOv2 of transformers",
            Dialect::LateralImage => "a ViT of transformers, of lateral views",
            Dialect::Bert => "a BERT of transformers",
        }
    }

    /// The counterpart of our tensor `name`.
    pub fn counterpart(self, name: &str, embedding: i64) -> Option<Counterpart> {
        match self {
            Dialect::Medst => Some(Counterpart::one(name.to_string())),
            Dialect::Reference => reference::counterpart(name, embedding),
            Dialect::Image(family) => family.counterpart(name.strip_prefix("image_encoder.")?),
            Dialect::LateralImage if name.contains(".lateral_expert.") => {
                let frontal = name.replace("lateral_expert", "frontal_expert");
                Family::Vit.counterpart(frontal.strip_prefix("image_encoder.")?)
            }
            Dialect::LateralImage => None,
            Dialect::Bert => bert::counterpart(name.strip_prefix("report_encoder.")?),
        }
    }

    /// Why a tensor of the file is not used; `None` where no reason is known.
    fn unused(self, name: &str, config: &ModelConfig) -> Option<&'static str> {
        match self {
            Dialect::Medst => match Group::from_name(name) {
                Some(Group::FindingHeads) => Some("the model has no heads for these findings (model.findings)"),
                Some(Group::Contrast) => Some("the model's temperature is not learned (loss.global_temperature)"),
                Some(Group::TaskHead) => Some("the model has no head of a fine-tuned model (medst finetune makes one)"),
                _ => None,
            },
            Dialect::Reference => reference::unused(name, config.text.num_layers),
            Dialect::Image(_) => vit::unused(name),
            Dialect::LateralImage => Some("shared with the frontal encoder"),
            Dialect::Bert => bert::unused(name, config.text.num_layers, config.semantics == Semantics::Reference),
        }
    }

    fn side(self, name: &str) -> Option<Side> {
        match self {
            Dialect::Medst => Group::from_name(name).map(Group::side),
            Dialect::Reference => Some(reference::side(name)),
            Dialect::Image(_) | Dialect::LateralImage => Some(Side::Image),
            Dialect::Bert => Some(Side::Text),
        }
    }
}

/// A tensor of a file that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    pub name: String,
    pub reason: String,
}

/// Sizes that a file determines. Numbers of heads are 0 where it does not.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    pub image: Option<ImageConfig>,
    pub text: Option<TextConfig>,
    /// Those of a file that is a whole model.
    pub whole: Option<ModelConfig>,
    /// Numbers of heads that a file states. Never guessed from widths, since shapes do not reveal a
    /// wrong number.
    pub image_heads: Option<i64>,
    pub text_heads: Option<i64>,
}

impl Sizes {
    /// The sizes of a medst model, from its card.
    pub fn from_card(card: &ModelCard) -> Sizes {
        let model = &card.model;
        let (image_heads, text_heads) = (Some(model.image.num_heads), Some(model.text.num_heads));
        Sizes { whole: Some(model.clone()), image_heads, text_heads, ..Sizes::default() }
    }
}

/// A file of weights.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    pub dialect: Dialect,
    /// Only this is taken.
    pub part: Option<EncoderPart>,
    /// By their names in the dialect.
    pub tensors: BTreeMap<String, Tensor>,
    pub sizes: Sizes,
    /// How its pixels were normalised, where the files state it.
    pub pixels: Option<Pixels>,
    /// A vocabulary next to it.
    pub vocabulary: Option<PathBuf>,
    /// Its card, where medst wrote the file.
    pub card: Option<ModelCard>,
    pub changed: Vec<String>,
    pub dropped: Vec<Dropped>,
}

impl Source {
    /// Reads what an input names: a file, a folder of medst, transformers or timm, or such a folder
    /// at a model hub. A folder may have several files of weights.
    ///
    /// # Errors
    /// A path that does not exist, with the names of the built-in models; a file that is
    /// unreadable, of an unknown model, or of one that is computed differently; the message names
    /// the file and the problem.
    pub fn read(input: &Input) -> Result<Vec<Source>> {
        let path = &*builtin::local(&input.path)?;
        let mut sources = if path.join(transformers::REST).exists() {
            transformers::read(path)?
        } else if path.is_dir() {
            vec![Source::read_file(&weights_of(path)?, true)?]
        } else {
            let named = path.file_name().is_some_and(|name| LIBRARY_FILES.iter().any(|&known| name == known));
            vec![Source::read_file(path, named)?]
        };
        sources.iter_mut().for_each(|source| source.part = input.part);
        if input.part == Some(EncoderPart::Encoders) && sources.len() > 1 {
            // Of a folder with a file for each part.
            sources.retain(Source::has_encoder);
        }
        Ok(sources)
    }

    /// Reads one file.
    ///
    /// * `folder`: whether the other files in its folder belong to the same model.
    pub fn read_file(path: &Path, folder: bool) -> Result<Source> {
        let file = TensorFile::read(path)?;
        let fail = |misfit: Misfit| Error::Weights { path: path.to_path_buf(), message: misfit.to_string() };
        let (dialect, prefix) = recognise(file.tensors.keys().map(String::as_str)).map_err(fail)?;
        let siblings = path.parent().filter(|_| folder);
        if dialect == Dialect::Medst {
            return Source::medst(file, siblings);
        }
        if dialect == Dialect::Reference {
            return Source::reference(&file);
        }
        let library = match siblings {
            Some(folder) => LibraryConfig::read(folder)?,
            None => None,
        };
        let mut source = Source::new(&file, dialect);
        let strip =
            |(name, tensor): (String, Tensor)| (name.strip_prefix(&prefix).unwrap_or(&name).to_string(), tensor);
        source.tensors = file.tensors.into_iter().map(strip).collect();
        if dialect == Dialect::Image(Family::Timm) {
            source.changed.extend(vit::join_chunks(&mut source.tensors).map_err(fail)?);
        }
        source.sizes_of_library(library.as_ref()).map_err(fail)?;
        if let Some(folder) = siblings {
            match dialect {
                Dialect::Bert => source.vocabulary = library::vocabulary(folder),
                _ => source.pixels = library::pixels(folder, library.as_ref())?,
            }
        }
        Ok(source)
    }

    /// A checkpoint with the reference's names.
    ///
    /// # Errors
    /// When a tensor that determines a size is missing.
    pub fn reference(file: &TensorFile) -> Result<Source> {
        let mut source = Source::new(file, Dialect::Reference);
        source.tensors = file.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        source.card = file.metadata.get(ModelCard::KEY).and_then(|text| ModelCard::parse(text).ok());
        match source.card.clone() {
            Some(card) => source.sizes = Sizes::from_card(&card),
            None => source.sizes.whole = Some(reference::configuration(file)?),
        }
        Ok(source)
    }

    fn medst(mut file: TensorFile, siblings: Option<&Path>) -> Result<Source> {
        let mut source = Source::new(&file, Dialect::Medst);
        source.tensors = std::mem::take(&mut file.tensors);
        source.card = match siblings.map(|folder| folder.join(CARD)).filter(|path| path.exists()) {
            Some(path) => Some(ModelCard::read(&path)?),
            None => file.metadata.get(ModelCard::KEY).map(|text| ModelCard::parse(text)).transpose()?,
        };
        source.sizes = source.card.as_ref().map(Sizes::from_card).unwrap_or_default();
        source.vocabulary = siblings.map(|folder| folder.join("vocab.txt")).filter(|path| path.exists());
        Ok(source)
    }

    fn new(file: &TensorFile, dialect: Dialect) -> Source {
        let reason = || "not part of the weights".to_string();
        Source {
            path: file.path.clone(),
            dialect,
            part: None,
            tensors: BTreeMap::new(),
            sizes: Sizes::default(),
            pixels: None,
            vocabulary: None,
            card: None,
            changed: Vec::new(),
            dropped: file.unread.iter().map(|name| Dropped { name: name.clone(), reason: reason() }).collect(),
        }
    }

    fn sizes_of_library(&mut self, library: Option<&LibraryConfig>) -> Result<(), Misfit> {
        let found = library.cloned().unwrap_or_default();
        found.check()?;
        if self.dialect == Dialect::Bert {
            self.changed.extend(bert::rename(&mut self.tensors));
        }
        let shapes: BTreeMap<&str, Vec<i64>> =
            self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
        match self.dialect {
            Dialect::Image(family) => {
                let mut image = vit::sizes(family, &shapes)?;
                self.sizes.image_heads = found.heads();
                image.num_heads = self.sizes.image_heads.unwrap_or(image.num_heads);
                // The libraries' own defaults: ViT's is 1e-12 in transformers, DINOv2's and timm's
                // 1e-6.
                let default = if family == Family::Vit { 1e-12 } else { image.epsilon };
                image.epsilon = found.layer_norm_eps.unwrap_or(default);
                self.sizes.image = Some(image);
            }
            Dialect::Bert => {
                if found.model_type.as_deref().is_some_and(|name| name != "bert" && !name.starts_with("cxr-bert")) {
                    let name = found.model_type.unwrap_or_default();
                    return Err(Misfit::Unsupported(format!(
                        "unsupported model_type `{name}`; the report encoder is a BERT"
                    )));
                }
                if found.model_type.is_none()
                    && let Some(sign) = bert::is_roberta(&self.tensors)
                {
                    return Err(Misfit::Unsupported(format!(
                        "its names are BERT's, but it seems to be a RoBERTa ({sign}), which is not supported: RoBERTa numbers positions from 2 and has another vocabulary. If it is a BERT, put a config.json with \
                         \"model_type\": \"bert\" next to it"
                    )));
                }
                if found.layer_norm_eps.is_some_and(|epsilon| epsilon != 1e-12) {
                    let epsilon = found.layer_norm_eps.unwrap_or_default();
                    return Err(Misfit::Unsupported(format!(
                        "unsupported layer_norm_eps {epsilon:e} in config.json; only 1e-12 is supported"
                    )));
                }
                let mut text = bert::sizes(&shapes)?;
                self.sizes.text_heads = found.heads();
                text.num_heads = self.sizes.text_heads.unwrap_or(text.num_heads);
                // If the file has more layers than the method, only the first ones are used.
                text.num_layers = text.num_layers.min(TextConfig::default().num_layers);
                self.sizes.text = Some(text);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether tensors of this side may be taken from it.
    pub fn allows(&self, side: Side) -> bool {
        !matches!(self.part, Some(EncoderPart::Side(only)) if only != side)
    }

    /// Whether this part of the model may be taken from it.
    pub fn gives(&self, group: Group) -> bool {
        self.part.is_none_or(|part| part.has(group))
    }

    fn has_encoder(&self) -> bool {
        match self.dialect {
            Dialect::Medst => self
                .tensors
                .keys()
                .filter_map(|name| Group::from_name(name))
                .any(|group| EncoderPart::Encoders.has(group)),
            Dialect::LateralImage => false,
            Dialect::Reference | Dialect::Image(_) | Dialect::Bert => true,
        }
    }

    /// Folds what a model of this configuration has no place for into the weights.
    ///
    /// # Errors
    /// Shapes that do not fit together.
    pub fn settle(&mut self, config: &ModelConfig) -> Result<(), Misfit> {
        let heads = [
            (Side::Image, "model.image.num_heads", self.sizes.image_heads, config.image.num_heads),
            (Side::Text, "model.text.num_heads", self.sizes.text_heads, config.text.num_heads),
        ];
        for (side, key, found, wanted) in heads {
            if let Some(found) = found.filter(|&found| self.allows(side) && found != wanted) {
                return Err(Misfit::Shape(format!(
                    "its encoder has {found} heads, but the configuration requires {wanted} ({key})"
                )));
            }
        }
        // First of all: folding in half precision would round twice.
        for kind in [Kind::Half, Kind::BFloat16] {
            let short: Vec<&mut Tensor> = self.tensors.values_mut().filter(|tensor| tensor.kind() == kind).collect();
            if !short.is_empty() {
                self.changed.push(format!("{} tensors converted from {kind:?} to Float", short.len()));
            }
            short.into_iter().for_each(|tensor| *tensor = tensor.to_kind(Kind::Float));
        }
        let epsilon = self
            .sizes
            .image
            .as_ref()
            .or(self.sizes.whole.as_ref().map(|whole| &whole.image))
            .map(|image| image.epsilon);
        if let Some(epsilon) = epsilon.filter(|&epsilon| self.allows(Side::Image) && epsilon != config.image.epsilon) {
            let ours = config.image.epsilon;
            self.changed.push(format!(
                "epsilon of the image encoder's layer norms changed from {epsilon:e} to {ours:e} (model.image.epsilon)"
            ));
        }
        match self.dialect {
            Dialect::Image(family) => {
                self.changed.extend(vit::fold(family, &mut self.tensors, &config.image, self.pixels)?);
                if self.pixels.is_none() {
                    let note = "pixel normalisation unknown; assumed (x − 0.5)/0.5";
                    self.changed.push(note.into());
                }
            }
            Dialect::Bert if config.semantics == Semantics::Corrected => {
                self.changed.extend(bert::fold_token_types(&mut self.tensors)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sorts the tensors that nothing used into explained ones, which are dropped, and problems,
    /// which are returned.
    ///
    /// * `aside`: those of parts that were not requested.
    pub fn explain(&mut self, used: &BTreeSet<String>, aside: &BTreeSet<String>, config: &ModelConfig) -> Vec<String> {
        let mut problems = Vec::new();
        for name in self.tensors.keys().filter(|name| !used.contains(*name)) {
            let other = self.dialect.side(name).is_some_and(|side| !self.allows(side));
            let reason = self
                .dialect
                .unused(name, config)
                .or(other.then_some("the other side of the model, not requested"))
                .or(aside.contains(name).then_some("a part of the model that was not requested"));
            match reason {
                Some(reason) => self.dropped.push(Dropped { name: name.clone(), reason: reason.into() }),
                None => problems.push(self.unexplained(name, config)),
            }
        }
        problems
    }

    fn unexplained(&self, name: &str, config: &ModelConfig) -> String {
        let block =
            |prefix: &str| name.split_once(prefix).and_then(|(_, rest)| rest.split('.').next()?.parse::<i64>().ok());
        match self.dialect {
            Dialect::Image(_)
                if block("blocks.").or(block("encoder.layer.")).is_some_and(|n| n >= config.image.num_layers) =>
            {
                format!("`{name}` belongs to a block beyond model.image.num_layers = {}", config.image.num_layers)
            }
            Dialect::Medst => format!("unknown tensor `{name}`"),
            Dialect::Reference => format!("unknown tensor `{name}` in a checkpoint of the reference implementation"),
            dialect => format!("unknown tensor `{name}` in {}", dialect.label()),
        }
    }

    /// Name, format and checksum, for the card of the resulting model.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn origin(&self) -> Result<Origin> {
        let name = || self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Origin {
            file: hub::named(&self.path).unwrap_or_else(name),
            format: self.dialect.label().into(),
            sha256: builtin::checksum(&self.path)?,
        })
    }
}

/// Names of weight files in the libraries' folders, and in those of medst.
const LIBRARY_FILES: [&str; 2] = [MODEL, "pytorch_model.bin"];

/// The weight file of a folder: of a medst run or checkpoint, or of a library.
fn weights_of(folder: &Path) -> Result<PathBuf> {
    let places = [folder.join("best"), folder.join("last"), folder.to_path_buf()];
    let files = places.iter().flat_map(|place| LIBRARY_FILES.map(|name| place.join(name)));
    if let Some(file) = files.into_iter().find(|file| file.exists()) {
        return Ok(file);
    }
    let sharded = folder.join("model.safetensors.index.json").exists();
    let message = if sharded {
        "the weights are split into several files; save them as one with save_pretrained(…, max_shard_size=\"50GB\")"
            .to_string()
    } else {
        format!("the folder has no {}; pass the path of the weight file in it", LIBRARY_FILES.join(" or "))
    };
    Err(Error::Weights { path: folder.to_path_buf(), message })
}

/// The dialect of these names, and their common prefix.
///
/// # Errors
/// Names of an unknown model, of several encoders, or of an encoder that computes something else.
pub fn recognise<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<(Dialect, String), Misfit> {
    let any = |test: &dyn Fn(&str) -> bool| names.clone().any(test);
    let prefixes = |ending: &str| -> Vec<&'a str> {
        names
            .clone()
            .filter_map(|name| name.strip_suffix(ending))
            .filter(|p| p.is_empty() || p.ends_with('.'))
            .collect()
    };
    if any(&|name| name.starts_with("img_encoder_q.model.layer1.") || name.ends_with("layer1.0.conv1.weight")) {
        return Err(Misfit::Unsupported(
            "a convolutional network (ResNet), such as the image encoder of BioViL and BioViL-T, is not \
                    supported; the image encoder is a vision transformer"
                .into(),
        ));
    }
    if any(&|name| name.starts_with("img_encoder_q.") || name.starts_with("text_encoder_q.")) {
        return Ok((Dialect::Reference, String::new()));
    }
    const OURS: [&str; 3] =
        ["image_encoder.class_token", "report_encoder.embeddings.words", "image_global.expand.weight"];
    if any(&|name| OURS.contains(&name)) {
        return Ok((Dialect::Medst, String::new()));
    }
    let dinov2 = any(&|name| name.contains("layer_scale1") || name.contains(".norm1."));
    let hugging = if dinov2 { Family::Dinov2 } else { Family::Vit };
    let found: Vec<(Dialect, &str)> = [
        (Dialect::Image(Family::Timm), "patch_embed.proj.weight"),
        (Dialect::Image(hugging), "embeddings.patch_embeddings.projection.weight"),
        (Dialect::Bert, "embeddings.word_embeddings.weight"),
    ]
    .into_iter()
    .flat_map(|(dialect, ending)| prefixes(ending).into_iter().map(move |prefix| (dialect, prefix)))
    .collect();
    match found.as_slice() {
        [(Dialect::Bert, prefix)] if prefix.contains("roberta") => Err(Misfit::Unsupported(
            "a RoBERTa is not supported: it numbers positions from 2 and has another vocabulary; the report \
                 encoder is a BERT"
                .into(),
        )),
        [(dialect, prefix)] => Ok((*dialect, prefix.to_string())),
        [] if any(&|name| name.contains("patch_embed.backbone") || name.contains("patch_embed.proj.0")) => {
            Err(Misfit::Unsupported("patches that are not embedded by a single linear layer are not supported".into()))
        }
        [] => {
            let first: Vec<&str> = names.clone().take(3).collect();
            Err(Misfit::Unknown(format!(
                "unknown model: its tensors ({}, …) are not named as in medst, the reference implementation, MGCA, \
                 vision transformers of timm, or ViT, DINOv2 or BERT of transformers",
                first.join(", ")
            )))
        }
        several => {
            let places: Vec<String> =
                several.iter().map(|(dialect, prefix)| format!("{} under `{prefix}`", dialect.label())).collect();
            Err(Misfit::Unknown(format!(
                "it contains several encoders ({}); save a file with only one of them",
                places.join(", ")
            )))
        }
    }
}
