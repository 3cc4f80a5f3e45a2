//! The three parts of a corpus. No subject is ever in two of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which part of a corpus a study belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Validate,
    Test,
}

impl Split {
    pub const ALL: [Split; 3] = [Split::Train, Split::Validate, Split::Test];

    /// Reads a split by its MIMIC-CXR name or a usual synonym (`val`, `valid`, `validation`,
    /// `dev`), in any case.
    pub fn parse(name: &str) -> Option<Split> {
        match name.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "validate" | "val" | "valid" | "validation" | "dev" => Some(Split::Validate),
            "test" => Some(Split::Test),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validate => "validate",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
