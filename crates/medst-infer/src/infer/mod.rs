//! A trained model in use, on whatever studies and texts come: the inference engine and what is built on it.
//!
//! | file | what |
//! |---|---|
//! | [`engine`] | the model, loaded once: decoded studies and texts in, vectors out, batched |
//! | [`sight`] | files to what the model sees |
//! | [`text`] | prompts and reports to word pieces |
//! | [`batch`] | which inputs are computed together |
//! | [`stream`] | many studies: decoded by all cores while the model computes |
//! | [`table`] | embeddings of files as Parquet or NPY |
//! | [`classes`], [`zero_shot`], [`calibrate`] | any classes by their sentences, as probabilities |
//! | [`predict`] | the head of a fine-tuned model |
//! | [`compare`], [`course`], [`series`], [`order`] | two or more time points of a subject |
//! | [`check`] | whether what is said of them holds on a corpus with labels |
//! | [`align`], [`ground`], [`boxes`], [`draw`] | words and patches, both ways; boxes and pictures of heat maps |
//! | [`reading`] | a report's sentences, each against the pictures |
//! | [`display`] | a picture for a screen, and what the model sees of it |
//! | [`search`] | nearest studies of an index |
//!
//! [`crate::embed`] embeds corpora; what comes out of both for the same study is the same.

pub mod align;
pub mod batch;
pub mod boxes;
pub mod calibrate;
pub mod check;
pub mod classes;
pub mod compare;
pub mod course;
pub mod display;
pub mod draw;
pub mod engine;
pub mod ground;
mod logistic;
pub mod order;
pub mod predict;
pub mod reading;
pub mod search;
pub mod series;
pub mod sight;
pub mod stream;
pub mod table;
pub mod text;
pub mod zero_shot;

pub use engine::{Engine, ImageVectors, Limits};
pub use sight::{Radiograph, Sight, Views};
pub use text::{Reader, Text};
