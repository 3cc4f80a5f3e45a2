//! What is typed for a file of weights: its path, and which side of the model to take from it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A side of the model: an encoder with its projections and its importance attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Image,
    Text,
}

impl Side {
    const ALL: [Side; 2] = [Side::Image, Side::Text];

    /// The name that a user types.
    pub fn name(self) -> &'static str {
        match self {
            Side::Image => "image",
            Side::Text => "text",
        }
    }
}

/// `FILE`, `image=FILE` or `text=FILE`; a folder in the place of a file where one belongs to the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Only this side is taken.
    pub side: Option<Side>,
    pub path: PathBuf,
}

impl Input {
    /// Uses all parts in the file.
    pub fn whole(path: impl Into<PathBuf>) -> Input {
        Input { side: None, path: path.into() }
    }
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Input, String> {
        let typed =
            Side::ALL.into_iter().find_map(|side| Some((side, text.strip_prefix(side.name())?.strip_prefix('=')?)));
        let (side, path) = match typed {
            Some((side, path)) => (Some(side), path),
            None => (None, text),
        };
        if path.is_empty() {
            return Err(format!("`{text}`: expected FILE, image=FILE or text=FILE"));
        }
        Ok(Input { side, path: path.into() })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Some(side) => write!(f, "{}={}", side.name(), self.path.display()),
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
    fn a_side_is_read_off_its_prefix_alone() {
        let input: Input = "image=runs/a=b.ckpt".parse().unwrap();
        assert_eq!((input.side, input.path.to_str()), (Some(Side::Image), Some("runs/a=b.ckpt")));
        let input: Input = "images=a.ckpt".parse().unwrap();
        assert_eq!((input.side, input.path.to_str()), (None, Some("images=a.ckpt")));
        assert_eq!("text=x".parse::<Input>().unwrap().to_string(), "text=x");
        assert!("text=".parse::<Input>().unwrap_err().contains("expected FILE, image=FILE or text=FILE"));
    }
}
