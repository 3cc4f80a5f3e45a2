//! Models by name: `hf://OWNER/NAME[@REVISION]` wherever the path of a model is accepted.
//!
//! A name becomes the folder of its files in the cache that all programs for Hugging Face's hub
//! share, so whatever can be read from a folder can be read from a hub. Hub, cache and token come
//! from the environment variables that those programs read:
//!
//! | variable | default |
//! |---|---|
//! | `HF_ENDPOINT` | `https://huggingface.co` |
//! | `HF_HOME` | `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface` |
//! | `HF_HUB_CACHE` | `$HF_HOME/hub` |
//! | `HF_HUB_OFFLINE` | not set; `1`, `true`, `yes` or `on`: only the cache is read |
//! | `HF_TOKEN`, `HF_TOKEN_PATH` | the file `$HF_HOME/token`, if there is one |
//!
//! Without the feature `hub`, a name is an error that explains this.

#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod request;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use crate::progress::{Progress, Silent};
use crate::{Error, Result};

/// Names of weight files; one of them is read from a folder.
pub const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// A model on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `OWNER/NAME`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
}

impl Name {
    /// The name that a path is, if it is one: paths are what commands and configurations hold.
    ///
    /// # Errors
    /// A name that no hub can have.
    pub fn from_path(path: &Path) -> Result<Option<Name>> {
        // Programs that tidy paths leave one slash of two.
        let Some(rest) = path.to_str().and_then(|text| text.strip_prefix("hf:/")) else { return Ok(None) };
        let rest = rest.trim_start_matches('/').trim_end_matches('/');
        let (repository, revision) = match rest.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (rest, None),
        };
        let parts: Vec<&str> = repository.split('/').collect();
        // Both become parts of paths and addresses.
        let plain = |text: &str, also: &str| {
            let allowed = |letter: char| letter.is_ascii_alphanumeric() || also.contains(letter);
            !text.is_empty() && text.chars().all(allowed) && !text.starts_with(['.', '/']) && !text.contains("..")
        };
        let valid = parts.len() == 2
            && parts.iter().all(|part| plain(part, "-_.") && !part.contains("--"))
            && revision.is_none_or(|revision| plain(revision, "-_./"));
        match valid {
            true => Ok(Some(Name { repository: repository.into(), revision: revision.map(Into::into) })),
            false => {
                Err(Error::Usage(format!("{}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION", path.display())))
            }
        }
    }

    #[cfg(not(feature = "hub"))]
    fn unsupported(&self) -> Error {
        Error::Usage(format!(
            "{self}: this medst was built without model hubs; build it with `--features medst-cli/hub` (or `ALL=1 make build`), or \
             download the model's files into a folder and pass that"
        ))
    }

    #[cfg(feature = "hub")]
    fn error(&self, message: impl Into<String>, unreachable: bool) -> Error {
        Error::Storage { address: self.to_string(), message: message.into(), unreachable }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf://{}", self.repository)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// Receives the progress of downloads that [`local`] makes.
static REPORTER: OnceLock<Box<dyn Progress + Send>> = OnceLock::new();

/// Chooses what receives the progress of downloads, once for a program.
pub fn report_to(progress: Box<dyn Progress + Send>) {
    let _ = REPORTER.set(progress);
}

/// A path unchanged, or the folder of the model that it names; files that are not in the cache are
/// fetched.
///
/// # Errors
/// As [`local_with`].
pub fn local(path: &Path) -> Result<Cow<'_, Path>> {
    local_with(path, REPORTER.get().map_or(&Silent as &dyn Progress, |reporter| reporter.as_ref()))
}

/// Like [`local`], reporting progress to `progress`.
///
/// # Errors
/// A hub that does not answer or refuses, a model without weights, files that differ from what the
/// hub announced, a cache that cannot be written, or a stop request.
pub fn local_with<'a>(path: &'a Path, progress: &dyn Progress) -> Result<Cow<'a, Path>> {
    match Name::from_path(path)? {
        None => Ok(Cow::Borrowed(path)),
        #[cfg(feature = "hub")]
        Some(name) => fetch::folder(&name, progress).map(Cow::Owned),
        #[cfg(not(feature = "hub"))]
        Some(name) => {
            let _ = progress;
            Err(name.unsupported())
        }
    }
}

/// The model that a file in the cache belongs to, as `hf://OWNER/NAME@COMMIT`. `None` for any other
/// path.
pub fn named(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    parts.windows(3).rev().find_map(|part| {
        let repository = part[0].strip_prefix("models--")?.replacen("--", "/", 1);
        (part[1] == "snapshots").then(|| format!("hf://{repository}@{}", part[2]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths_and_checked() {
        let name = |text: &str| Name::from_path(Path::new(text));
        for path in ["models/phantom", "hf", "s3://a/b", "./hf://a/b"] {
            assert_eq!(name(path).unwrap(), None, "{path}");
        }
        for (text, repository, revision) in [
            ("hf://microsoft/rad-dino", "microsoft/rad-dino", None),
            ("hf:/microsoft/rad-dino", "microsoft/rad-dino", None),
            ("hf://a_b/c.d@refs/pr/1", "a_b/c.d", Some("refs/pr/1")),
        ] {
            let found = name(text).unwrap().unwrap();
            assert_eq!((found.repository.as_str(), found.revision.as_deref()), (repository, revision));
        }
        for text in [
            "hf://",
            "hf://a",
            "hf://a/b/c",
            "hf://a/b@",
            "hf://../b",
            "hf://a/..",
            "hf://a/b@../c",
            "hf://a/b?c",
            "hf://a--b/c",
            "hf://a/b@/c",
            "hf://ä/b",
        ] {
            assert!(name(text).unwrap_err().to_string().contains("expected hf://OWNER/NAME"), "{text}");
        }
    }

    #[test]
    fn a_file_of_the_cache_has_the_name_of_its_model() {
        let path = Path::new("/h/hub/models--microsoft--rad-dino/snapshots/0123/model.safetensors");
        assert_eq!(named(path).unwrap(), "hf://microsoft/rad-dino@0123");
        assert_eq!(named(path.parent().unwrap()).unwrap(), "hf://microsoft/rad-dino@0123");
        assert_eq!(named(Path::new("models/phantom/model.safetensors")), None);
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_a_name_says_how_to_build_it_in() {
        let error = local(Path::new("hf://a/b")).unwrap_err().to_string();
        assert!(
            error.contains("hf://a/b: this medst was built without model hubs") && error.contains("medst-cli/hub"),
            "{error}"
        );
    }
}
