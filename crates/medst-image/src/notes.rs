//! Remarks on how a picture was read, for pictures that could be read.

use std::collections::BTreeSet;

/// Remarks on one picture, each at most once, to be counted over many pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeSet<&'static str>);

impl Notes {
    /// Adds a remark: what was found, and what was done about it.
    pub fn add(&mut self, note: &'static str) {
        self.0.insert(note);
    }

    /// The remarks in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }
}
