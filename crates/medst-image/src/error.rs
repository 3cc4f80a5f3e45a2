//! Why a picture cannot be read.

use std::borrow::Cow;
use std::fmt;

use crate::View;

type Text = Cow<'static, str>;

/// Larger pictures are refused before memory is taken for them. The largest detectors give about 25
/// million pixels.
pub(crate) const MOST_PIXELS: usize = 200_000_000;

/// # Errors
/// A picture without pixels, or with more than are read.
pub(crate) fn check_size(width: usize, height: usize) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::NoPixels { width, height });
    }
    if width.saturating_mul(height) > MOST_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    Ok(())
}

/// Why a picture cannot be read; the message does not name the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The file has no bytes.
    Empty,
    /// Another file format, or a transfer syntax, encoding or kind of pixels that is not supported.
    Unsupported(Text),
    /// The file ends early.
    Truncated(Text),
    /// The file contradicts itself or its format.
    Damaged(Text),
    NoPixels {
        width: usize,
        height: usize,
    },
    /// More pixels than are read; the message has the limit.
    TooLarge {
        width: usize,
        height: usize,
    },
    /// The short side would vanish in a square of `side` pixels.
    TooNarrow {
        width: usize,
        height: usize,
        side: usize,
    },
    /// Samples that do not make the picture that they are said to make.
    Samples(Text),
    /// The header names a view that is neither frontal nor lateral.
    NeitherView,
    /// The header names another view than the file was declared to have.
    OtherView {
        declared: &'static str,
        found: View,
    },
    /// The caller cancelled the work ([`super::cancel`]).
    Cancelled,
}

impl ImageError {
    pub(crate) fn unsupported(what: impl Into<Text>) -> ImageError {
        ImageError::Unsupported(what.into())
    }

    pub(crate) fn truncated(what: impl Into<Text>) -> ImageError {
        ImageError::Truncated(what.into())
    }

    pub(crate) fn damaged(what: impl Into<Text>) -> ImageError {
        ImageError::Damaged(what.into())
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Empty => f.write_str("the file is empty"),
            ImageError::Unsupported(text)
            | ImageError::Truncated(text)
            | ImageError::Damaged(text)
            | ImageError::Samples(text) => f.write_str(text),
            ImageError::NoPixels { width, height } => write!(f, "it has no pixels ({width}×{height})"),
            ImageError::TooLarge { width, height } => {
                write!(f, "image too large: {width}×{height} pixels (limit {MOST_PIXELS})")
            }
            ImageError::TooNarrow { width, height, side } => {
                write!(f, "image too narrow: {width}×{height} pixels cannot be resized to {side} pixels")
            }
            ImageError::NeitherView => f.write_str("its header states a view that is neither frontal nor lateral"),
            ImageError::OtherView { declared, found } => {
                write!(f, "declared as {declared}, but its header says {found:?}")
            }
            ImageError::Cancelled => f.write_str("cancelled: the picture is not needed any more"),
        }
    }
}

impl std::error::Error for ImageError {}
