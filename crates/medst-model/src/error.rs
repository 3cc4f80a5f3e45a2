//! The one error type of this crate. Every message names the file or key, and what was expected.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error(transparent)]
    Data(#[from] medst_data::Error),

    #[error("configuration: {0}")]
    Config(String),

    #[error("{}: not usable as weights: {message}", path.display())]
    Weights { path: PathBuf, message: String },

    #[error("{}: not a usable checkpoint: {message}", path.display())]
    Checkpoint { path: PathBuf, message: String },

    #[error("{0}")]
    Training(String),

    /// Several processes at one run.
    #[error("distributed: {0}")]
    Distributed(String),

    #[error("evaluation: {0}")]
    Evaluation(String),

    /// A request that cannot be answered, such as a prompt without words.
    #[error("{0}")]
    Input(String),

    /// The rest was done.
    #[error("{left_out} of {all} {what} could not be used (the others were)")]
    LeftOut { left_out: usize, all: usize, what: &'static str },

    #[error("libtorch: {0}")]
    Engine(#[from] tch::TchError),

    #[error("stopped on request")]
    Stopped,
}

impl Error {
    /// The message without the prefix that names the part of the program.
    pub fn reason(self) -> String {
        match self {
            Error::Evaluation(message) => message,
            other => other.to_string(),
        }
    }

    /// For `map_err`: adds the path of the file to an I/O error.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }
}
