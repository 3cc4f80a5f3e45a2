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

    /// Data from which nothing can be computed: embeddings, labels, an index.
    #[error("{0}")]
    Evaluation(String),

    /// An argument or request that cannot be used, such as an option that needs another one, or a
    /// prompt without words.
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
    /// For `map_err`: adds the path of the file to an I/O error.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }
}
