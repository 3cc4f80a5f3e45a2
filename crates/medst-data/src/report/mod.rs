//! Report text, from the file a hospital writes to the word pieces a model reads.
//!
//! [`sections`] finds impression and findings, [`clean`] makes plain sentences of them, [`wordpiece`] cuts those into pieces.
//! [`prepare`] is the first two steps as importers use them. [`spans`] says where sentences stand.

pub mod clean;
pub mod sections;
pub mod spans;
pub mod wordpiece;

pub use clean::{Rejection, of_sections, prepare};
pub use wordpiece::WordPiece;
