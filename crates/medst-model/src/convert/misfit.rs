//! Why the tensors of a file do not make a model's.

/// Why a file's tensors cannot be used; the message names the tensor, not the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    #[error("`{0}` is missing")]
    Missing(String),
    /// A tensor of a medst model for which the file's kind of model has no counterpart.
    #[error("`{0}` has no counterpart")]
    NoCounterpart(String),
    /// Shapes that do not fit the configuration, or each other.
    #[error("{0}")]
    Shape(String),
    /// Values of another type, or that are not finite.
    #[error("{0}")]
    Values(String),
    /// A model that computes something else.
    #[error("{0}")]
    Unsupported(String),
    /// Names of no known model, or of several.
    #[error("{0}")]
    Unknown(String),
}
