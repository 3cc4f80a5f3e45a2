//! Report text, from the file a hospital writes to the word pieces a model reads.
//!
//! `headers` finds impression and findings ([`sections`] those of MIMIC-CXR), [`clean`] turns
//! them into plain sentences, and `wordpiece` splits those into pieces. [`prepare`] combines the
//! first two steps for importers. [`spans`] gives the positions of sentences.

pub mod clean;
pub(crate) mod headers;
pub(crate) mod names;
pub mod sections;
pub mod spans;
pub(crate) mod wordpiece;

pub use clean::{Rejection, Rule, of_sections, prepare, prepare_mimic_cxr};
pub use wordpiece::WordPiece;
