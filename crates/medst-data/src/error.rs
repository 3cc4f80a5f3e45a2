//! What goes wrong in this crate: an [`Error`], whose message names the file, row or key, and what
//! was expected; or a [`Reason`], which concerns a single row, report or picture.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::image::ImageError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{}: {message}", path.display())]
    Table { path: PathBuf, message: String },

    #[error("{}: row {row}: {message}", path.display())]
    Row { path: PathBuf, row: u64, message: String },

    #[error("{}: not a readable radiograph: {reason}", path.display())]
    Image { path: PathBuf, reason: ImageError },

    #[error("{}: not a usable corpus: {message}", path.display())]
    Corpus { path: PathBuf, message: String },

    /// A file that does not hold what was written to it.
    #[error("{}: {message}", path.display())]
    Damaged { path: PathBuf, message: String },

    /// Object storage; `unreachable` where it did not answer at all.
    #[error("{address}: {message}")]
    Storage { address: String, message: String, unreachable: bool },

    #[error("vocabulary {}: {message}", path.display())]
    Vocabulary { path: PathBuf, message: String },

    #[error("{0}")]
    Usage(String),

    #[error("stopped on request")]
    Stopped,
}

impl Error {
    /// The same error of a table, of the file that the user named.
    pub(crate) fn at(self, path: &Path) -> Error {
        let path = path.to_path_buf();
        match self {
            Error::Table { message, .. } => Error::Table { path, message },
            Error::Row { row, message, .. } => Error::Row { path, row, message },
            other => other,
        }
    }

    /// For `map_err`: adds the path of the file to an I/O error.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// For `map_err`: adds the path of the file to the reason why its picture cannot be read.
    pub fn image(path: impl AsRef<Path>) -> impl FnOnce(ImageError) -> Error {
        let path = path.as_ref().to_path_buf();
        move |reason| Error::Image { path, reason }
    }
}

/// Why a row, a report or a picture cannot be used. Mostly it is counted and listed, and the run
/// goes on; where it ends the run, it becomes an [`Error`] that names the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Reason(String);

impl Reason {
    /// Why a picture or its header cannot be read. Most errors of a picture are stated without its
    /// name, so that equal ones are counted together.
    pub(crate) fn of_picture(error: Error) -> Reason {
        match error {
            Error::Image { reason, .. } => Reason::from(reason),
            other => Reason(other.to_string()),
        }
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Reason {
        Reason(text)
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Reason {
        Reason(text.to_string())
    }
}

impl From<ImageError> for Reason {
    fn from(error: ImageError) -> Reason {
        Reason(error.to_string())
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        reason.0
    }
}
