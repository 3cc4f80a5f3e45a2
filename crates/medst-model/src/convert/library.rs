//! What is next to weights of transformers and timm: `config.json`, `preprocessor_config.json` and
//! the vocabulary.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Misfit;
use super::vit::Pixels;
use crate::{Error, Result};
use medst_data::input;

/// The keys that decide how weights are used; all others do not matter to an encoder in use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LibraryConfig {
    pub model_type: Option<String>,
    pub num_attention_heads: Option<i64>,
    /// timm's name of the model, such as `vit_base_patch16_224`.
    pub architecture: Option<String>,
    pub hidden_act: Option<String>,
    pub layer_norm_eps: Option<f64>,
    pub position_embedding_type: Option<String>,
    /// timm's: statistics of the pixels.
    pub pretrained_cfg: Option<PretrainedConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PretrainedConfig {
    pub mean: Option<[f64; 3]>,
    pub std: Option<[f64; 3]>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Preprocessor {
    do_normalize: Option<bool>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f64; 3]>,
    image_std: Option<[f64; 3]>,
}

impl LibraryConfig {
    /// Reads `config.json` in a folder; `None` if it does not exist.
    ///
    /// # Errors
    /// A file that is not JSON, or has values of other types.
    pub fn read(folder: &Path) -> Result<Option<LibraryConfig>> {
        json(&folder.join("config.json"))
    }

    /// The number of attention heads, where the file states it or names a model of timm that has a
    /// fixed one.
    pub fn heads(&self) -> Option<i64> {
        let of_architecture = || {
            let mut parts = self.architecture.as_deref()?.split('_');
            let (family, size) = (parts.next()?, parts.next()?);
            let plain = matches!(family, "vit" | "deit" | "deit3") && parts.next()?.starts_with("patch");
            let heads = [("tiny", 3), ("small", 6), ("base", 12), ("large", 16), ("huge", 16)];
            heads.into_iter().find_map(|(name, heads)| (plain && name == size).then_some(heads))
        };
        self.num_attention_heads.or_else(of_architecture)
    }

    /// Refuses what is computed in another way than here.
    pub fn check(&self) -> Result<(), Misfit> {
        if let Some(activation) = self.hidden_act.as_deref().filter(|&name| name != "gelu") {
            return Err(Misfit::Unsupported(format!(
                "unsupported activation `{activation}` (hidden_act in config.json); only the exact `gelu` is supported"
            )));
        }
        match self.position_embedding_type.as_deref().filter(|&name| name != "absolute") {
            Some(name) => Err(Misfit::Unsupported(format!(
                "unsupported positions `{name}` (position_embedding_type in config.json); only `absolute` is supported"
            ))),
            None => Ok(()),
        }
    }
}

/// The vocabulary in the folder of the weights: `vocab.txt`, or `tokenizer.json` where newer
/// versions save that alone.
pub fn vocabulary(folder: &Path) -> Option<PathBuf> {
    ["vocab.txt", "tokenizer.json"].map(|name| folder.join(name)).into_iter().find(|path| path.exists())
}

/// How the library normalises pixels, from the files in the folder of the weights.
///
/// # Errors
/// An unreadable file; a pixel scaling other than 1/255; an invalid normalisation.
pub fn pixels(folder: &Path, config: Option<&LibraryConfig>) -> Result<Option<Pixels>> {
    let path = folder.join("preprocessor_config.json");
    let fail = |message: String| Error::Weights { path: path.clone(), message };
    if let Some(preprocessor) = json::<Preprocessor>(&path)? {
        let factor = preprocessor.rescale_factor.unwrap_or(1.0 / 255.0);
        if preprocessor.do_rescale == Some(false) || (factor * 255.0 - 1.0).abs() > 1e-3 {
            return Err(fail("unsupported pixel scaling (do_rescale, rescale_factor); only 1/255 is supported".into()));
        }
        let (mean, deviation) = match preprocessor.do_normalize {
            Some(false) => ([0.0; 3], [1.0; 3]),
            _ => (preprocessor.image_mean.unwrap_or([0.5; 3]), preprocessor.image_std.unwrap_or([0.5; 3])),
        };
        if deviation.iter().any(|&value| value <= 0.0 || !value.is_finite())
            || mean.iter().any(|value| !value.is_finite())
        {
            return Err(fail(format!("invalid normalisation: image_mean {mean:?}, image_std {deviation:?}")));
        }
        return Ok(Some(Pixels { mean, deviation }));
    }
    let timm = config.and_then(|config| config.pretrained_cfg.as_ref());
    Ok(timm.and_then(|found| Some(Pixels { mean: found.mean?, deviation: found.std? })))
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = input::read(path, input::TEXT).map_err(Error::io(path))?;
    let read = serde_json::from_slice(&text);
    read.map(Some).map_err(|error| Error::Weights { path: path.to_path_buf(), message: error.to_string() })
}
