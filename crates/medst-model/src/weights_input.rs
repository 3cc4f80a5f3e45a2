//! What is typed for a file of weights: its path, and which part of the model to take from it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::group::{Group, Side};

/// What is taken of a file, where it is not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderPart {
    Side(Side),
    /// Both encoders, with the lateral experts as copies of the frontal ones, and nothing that is
    /// trained on top of them: how the paper starts, from encoders that others trained on frontal
    /// images.
    Encoders,
}

impl EncoderPart {
    const ALL: [EncoderPart; 3] =
        [EncoderPart::Side(Side::Image), EncoderPart::Side(Side::Text), EncoderPart::Encoders];

    /// The name that a user types.
    pub fn name(self) -> &'static str {
        match self {
            EncoderPart::Side(side) => side.name(),
            EncoderPart::Encoders => "encoders",
        }
    }

    /// Whether a part of the model is in it.
    pub fn has(self, group: Group) -> bool {
        match self {
            EncoderPart::Side(side) => group.side() == side,
            EncoderPart::Encoders => matches!(group, Group::ImageEncoder | Group::ReportEncoder),
        }
    }
}

/// `FILE`, `image=FILE`, `text=FILE` or `encoders=FILE`; a folder in the place of a file where one
/// belongs to the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Only this is taken.
    pub part: Option<EncoderPart>,
    pub path: PathBuf,
}

impl Input {
    /// Uses all parts in the file.
    pub fn whole(path: impl Into<PathBuf>) -> Input {
        Input { part: None, path: path.into() }
    }
}

/// Text that names no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`: expected FILE, image=FILE, text=FILE or encoders=FILE")]
pub struct NoFile(String);

impl FromStr for Input {
    type Err = NoFile;

    fn from_str(text: &str) -> Result<Input, NoFile> {
        let typed = EncoderPart::ALL
            .into_iter()
            .find_map(|part| Some((part, text.strip_prefix(part.name())?.strip_prefix('=')?)));
        let (part, path) = match typed {
            Some((part, path)) => (Some(part), path),
            None => (None, text),
        };
        if path.is_empty() {
            return Err(NoFile(text.into()));
        }
        Ok(Input { part, path: path.into() })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(part) => write!(f, "{}={}", part.name(), self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Input, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// For serde: accepts one input or a list of them.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Input>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Typed {
        One(Input),
        Many(Vec<Input>),
    }
    Ok(match Typed::deserialize(deserializer)? {
        Typed::One(input) => vec![input],
        Typed::Many(inputs) => inputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_off_its_prefix_alone() {
        let input: Input = "image=runs/a=b.ckpt".parse().unwrap();
        assert_eq!((input.part, input.path.to_str()), (Some(EncoderPart::Side(Side::Image)), Some("runs/a=b.ckpt")));
        let input: Input = "images=a.ckpt".parse().unwrap();
        assert_eq!((input.part, input.path.to_str()), (None, Some("images=a.ckpt")));
        let input: Input = "encoders=run".parse().unwrap();
        assert_eq!((input.part, input.path.to_str()), (Some(EncoderPart::Encoders), Some("run")));
        assert_eq!("text=x".parse::<Input>().unwrap().to_string(), "text=x");
        assert!("text=".parse::<Input>().unwrap_err().to_string().contains("expected FILE, image=FILE, text=FILE"));
    }
}
