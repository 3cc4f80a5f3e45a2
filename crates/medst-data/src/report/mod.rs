//! Report text, from the file a hospital writes to the word pieces a model reads.
//!
//! [`headers`] finds impression and findings ([`sections`] those of MIMIC-CXR), [`clean`] makes
//! plain sentences of them, [`wordpiece`] cuts those into pieces. [`prepare`] is the first two
//! steps as importers use them. [`spans`] gives the places of sentences.

pub mod clean;
pub mod headers;
pub mod names;
pub mod sections;
pub mod spans;
pub mod wordpiece;

pub use clean::{Rejection, Rule, of_sections, prepare, prepare_mimic_cxr};
pub use wordpiece::WordPiece;
