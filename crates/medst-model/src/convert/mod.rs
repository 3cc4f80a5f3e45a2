//! Weights of other programs, in and out: the reference implementation, MGCA, vision transformers
//! of timm and transformers, BERT.
//!
//! * [`source`], `library` – recognising a file; the files next to it
//! * [`counterpart`], [`mod@reference`], [`vit`], `bert`: our tensors in other families: one
//!   table per family, read both ways
//! * [`positions`] – pictures of another size
//! * `fill` – from files to a model: what is taken, initialised, dropped, refused
//! * [`mod@write`], [`pickle`], [`transformers`], `onnx`: from a model to files
//!
//! Nothing of a file is executed: pickles are parsed by a reader that knows tensors and containers
//! and nothing else.

pub(crate) mod bert;
pub mod counterpart;
pub(crate) mod fill;
pub(crate) mod library;
pub(crate) mod misfit;
pub(crate) mod onnx;
pub mod pickle;
pub mod positions;
pub mod reference;
pub mod source;
pub mod transformers;
pub mod vit;
pub mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use medst_data::report::WordPiece;
use serde::Serialize;
use tch::{Device, Kind};

pub use self::fill::Filled;
pub use self::misfit::Misfit;
use self::source::{Dialect, Source};
use self::vit::Pixels;
pub use self::write::Target;
use crate::config::{self, Config};
use crate::model::card::{ModelCard, Origin};
use crate::model::config::ModelConfig;
use crate::model::group::{Group, Side};
use crate::model::head::HeadConfig;
use crate::model::{MedSt, builtin};
use crate::weights_input::{EncoderPart, Input};
use crate::{Error, Result, former};

/// A requested conversion.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub inputs: Vec<Input>,
    pub out: PathBuf,
    pub to: Target,
    /// A configuration whose `[model]` section gives the sizes; inferred from the files where
    /// absent.
    pub config: Option<PathBuf>,
    /// `model.…=value`.
    pub overrides: Vec<String>,
    /// The vocabulary of the report encoder, where there is none next to it and it is not the
    /// built-in one.
    pub vocabulary: Option<PathBuf>,
    /// How pixels were normalised in the image encoder's training, where the files do not say.
    pub pixels: Option<Pixels>,
    pub licence: Option<String>,
    /// Seed of the weights that no file has.
    pub seed: u64,
    pub overwrite: bool,
    /// 16 bits per value, in a medst folder.
    pub half: bool,
    /// 8 bits per weight of the encoders, in ONNX graphs.
    pub int8: bool,
}

/// The result of a conversion.
#[derive(Debug, Serialize)]
pub struct Conversion {
    pub out: PathBuf,
    pub to: Target,
    pub model: ModelConfig,
    #[serde(flatten)]
    pub filled: Filled,
    pub notes: Vec<String>,
}

/// Makes a model from files and writes it.
///
/// # Errors
/// Files that are unreadable or do not fit together, contents that cannot be explained, a target
/// that already exists.
pub fn convert(request: &Request) -> Result<Conversion> {
    write::check_free(&request.out, request.overwrite)?;
    let mut sources = read(&request.inputs)?;
    if let Some(pixels) = request.pixels {
        let images = sources.iter_mut().filter(|source| matches!(source.dialect, Dialect::Image(_)));
        images.for_each(|source| source.pixels = Some(pixels));
    }
    let mut config = configuration(&sources, request.config.as_deref(), &request.overrides)?;
    let pieces = vocabulary(&sources, request.vocabulary.as_deref(), &mut config)?;
    let mut card = card(&sources, &config, &pieces)?;
    card.licence = request.licence.clone().or(card.licence);
    let mut model = MedSt::new(&config, request.seed, Device::Cpu, Kind::Float)?;
    let filled = fill::fill(&mut model, sources)?;
    let notes = write::write(request, &model, &card, &pieces, &filled)?;
    Ok(Conversion { out: request.out.clone(), to: request.to, model: config, filled, notes })
}

/// The weights that a run starts from, `init.weights`.
#[derive(Debug)]
pub struct Start(Vec<Source>);

impl Start {
    /// # Errors
    /// Files that are unreadable, by name.
    pub fn read(inputs: &[Input]) -> Result<Start> {
        Ok(Start(read(inputs)?))
    }

    /// Sets what the weights decide of a model: how many positions a report can have and which ones
    /// tokens get, and the epsilon of the image encoder.
    pub fn decide(&self, model: &mut ModelConfig) {
        Start::decide_all(&self.0, model);
    }

    fn decide_all(sources: &[Source], model: &mut ModelConfig) {
        for source in sources {
            let whole = source.sizes.whole.as_ref();
            let (image, text) = (source.sizes.image.as_ref(), source.sizes.text.as_ref());
            if let Some(image) = image.or(whole.map(|config| &config.image)).filter(|_| source.allows(Side::Image)) {
                model.image.epsilon = image.epsilon;
            }
            if let Some(text) = text.or(whole.map(|config| &config.text)).filter(|_| source.allows(Side::Text)) {
                (model.text.max_positions, model.text.positions) = (text.max_positions, text.positions);
            }
        }
    }

    /// Fills a model; returns what was done, and from which files.
    ///
    /// # Errors
    /// As [`convert`].
    pub fn fill(self, model: &mut MedSt) -> Result<(Filled, Vec<Origin>)> {
        let origin = self.0.iter().map(Source::origin).collect::<Result<_>>()?;
        Ok((fill::fill(model, self.0)?, origin))
    }
}

/// A model with a new head.
pub struct Headed {
    pub model: MedSt,
    pub card: ModelCard,
    pub pieces: WordPiece,
    pub filled: Filled,
}

/// A model of files with a new head, for `finetune`: everything that they hold, but for a head that
/// was trained before.
///
/// # Errors
/// As [`convert`].
pub fn with_head(inputs: &[Input], head: HeadConfig, seed: u64, device: Device, kind: Kind) -> Result<Headed> {
    let mut sources = read(inputs)?;
    for source in &mut sources {
        source.tensors.retain(|name, _| Group::from_name(name) != Some(Group::TaskHead));
    }
    let mut config = ModelConfig { head: Some(head), ..configuration(&sources, None, &[])? };
    let pieces = match inputs.iter().find_map(|input| builtin::named(&input.path)) {
        Some(builtin) => builtin.pieces()?,
        None => vocabulary(&sources, None, &mut config)?,
    };
    let before = card(&sources, &config, &pieces)?;
    let origin = sources.iter().map(Source::origin).collect::<Result<_>>()?;
    let card = ModelCard { model: config.clone(), step: 0, origin, ..before };
    let mut model = MedSt::new(&config, seed, device, kind)?;
    let filled = fill::fill(&mut model, sources)?;
    Ok(Headed { model, card, pieces, filled })
}

fn read(inputs: &[Input]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for input in inputs {
        sources.extend(Source::read(input)?);
    }
    Ok(sources)
}

/// The model's sizes: of a configuration file, else read off the files; then overridden. (Unlike
/// the configuration of a run, overrides may set whatever a model's card states.)
fn configuration(sources: &[Source], file: Option<&Path>, overrides: &[String]) -> Result<ModelConfig> {
    if let Some(other) = overrides.iter().find(|text| !text.trim_start().starts_with("model.")) {
        return Err(Error::Input(format!(
            "--set {other}: only keys of [model] can be set here, such as model.image.size"
        )));
    }
    let typed = config::overridden("", overrides)?;
    former::refuse_in_model(&typed)?;
    if let Some(file) = file {
        let mut config = Config::load(file, &[])?.model;
        Start::decide_all(sources, &mut config);
        return changed(config, overrides);
    }
    let mut config = ModelConfig::default();
    for source in sources {
        if let Some(whole) = &source.sizes.whole {
            match source.part {
                None | Some(EncoderPart::Encoders) => config = whole.clone(),
                Some(EncoderPart::Side(Side::Image)) => config.image = whole.image.clone(),
                Some(EncoderPart::Side(Side::Text)) => config.text = whole.text.clone(),
            }
            config.projection = whole.projection.clone();
        }
    }
    for source in sources {
        if let Some(image) = source.sizes.image.as_ref().filter(|_| source.allows(Side::Image)) {
            config.image = image.clone();
        }
        if let Some(text) = source.sizes.text.as_ref().filter(|_| source.allows(Side::Text)) {
            config.text = text.clone();
        }
    }
    let unknown = [
        ("model.image.num_heads", config.image.num_heads, config.image.hidden_size),
        ("model.text.num_heads", config.text.num_heads, config.text.hidden_size),
    ];
    for (key, heads, width) in unknown {
        if heads == 0 && !overrides.iter().any(|text| text.trim_start().starts_with(key)) {
            return Err(Error::Input(format!(
                "cannot infer the number of attention heads; pass --set {key}=N (the encoder has width {width}, \
                 and no config.json next to the weights states the number of heads)"
            )));
        }
    }
    changed(config, overrides)
}

/// With `model.…=value` overrides.
fn changed(config: ModelConfig, overrides: &[String]) -> Result<ModelConfig> {
    let text =
        toml::to_string(&BTreeMap::from([("model", config)])).map_err(|error| Error::Config(error.to_string()))?;
    let mut table = config::overridden(&text, overrides)?;
    let config: ModelConfig = match table.remove("model") {
        Some(model) => model.try_into().map_err(config::unreadable)?,
        None => ModelConfig::default(),
    };
    config.validate()?;
    Ok(config)
}

/// The vocabulary of the report encoder: the requested one, else the one next to the weights, else
/// the built-in one.
fn vocabulary(sources: &[Source], asked: Option<&Path>, config: &mut ModelConfig) -> Result<WordPiece> {
    let text: Vec<&Source> = sources.iter().filter(|source| source.allows(Side::Text)).collect();
    let stored = text.iter().find_map(|source| source.vocabulary.clone());
    let builtin = text.iter().find_map(|source| builtin::named(&source.path));
    let pieces = match (asked.map(Path::to_path_buf).or(stored), builtin) {
        (Some(path), _) => WordPiece::from_file(&path)?,
        (None, Some(builtin)) => builtin.pieces()?,
        (None, None) => WordPiece::bert_cased(),
    };
    let sizes = text
        .iter()
        .find_map(|source| source.sizes.text.as_ref().or(source.sizes.whole.as_ref().map(|config| &config.text)));
    // Without a report encoder any vocabulary will do.
    config.text.vocabulary = sizes.map_or(pieces.size() as i64, |text| text.vocabulary);
    if pieces.size() as i64 != config.text.vocabulary {
        return Err(Error::Input(format!(
            "the report encoder has {} word pieces, but the vocabulary has {}; pass the right one with \
             --vocabulary FILE",
            config.text.vocabulary,
            pieces.size()
        )));
    }
    let card = text.iter().find_map(|source| source.card.as_ref());
    match card {
        Some(card) if card.vocabulary_sha256 != pieces.checksum() => Err(Error::Input(
            "the model was trained with another vocabulary, which is not next to the weights; pass it with \
             --vocabulary FILE"
                .into(),
        )),
        _ => Ok(pieces),
    }
}

/// The card of the result. Where a medst model is taken whole, it is that model's card; files of
/// other formats are added as its origin.
fn card(sources: &[Source], config: &ModelConfig, pieces: &WordPiece) -> Result<ModelCard> {
    let whole = sources.iter().filter(|source| source.part.is_none()).find_map(|source| source.card.clone());
    let mut card = ModelCard::new(config, pieces, 0, "unknown".into());
    if let Some(before) = whole {
        card = ModelCard { model: card.model, vocabulary_sha256: card.vocabulary_sha256, ..before };
    }
    let converted = sources.iter().filter(|source| source.card.is_none());
    for origin in converted.map(Source::origin) {
        card.origin.push(origin?);
    }
    Ok(card)
}

/// How many different numbers follow `prefix` in names: layers, which are counted from 0. (The
/// largest number would let one name in a damaged file ask for a model of any size.)
fn numbered<'a>(names: impl Iterator<Item = &'a str>, prefix: &str) -> i64 {
    let numbers = names.filter_map(|name| name.strip_prefix(prefix)?.split('.').next()?.parse::<u32>().ok());
    numbers.collect::<std::collections::BTreeSet<_>>().len() as i64
}

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.filled)?;
        let what = match self.to {
            Target::Medst => "a medst model",
            Target::Reference => "a checkpoint with the names of the reference implementation",
            Target::Transformers => "a folder for transformers",
            Target::Onnx => "a folder of ONNX graphs",
            Target::Hub => {
                "a folder for a model hub; fill in its README.md, then: huggingface-cli upload OWNER/NAME FOLDER"
            }
        };
        writeln!(f, "written    {}: {what}", self.out.display())?;
        write!(f, "{}", self.model)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}
