//! A trained model in use, on whatever studies and texts come: the inference engine and what is
//! built on it.
//!
//! * `engine` – the model, loaded once
//! * `forward` – what it computes, also of a model that is borrowed: decoded studies and texts in,
//!   vectors out, batched
//! * [`preprocessing`] – pictures to what the model reads
//! * [`text`] – prompts and reports to word pieces
//! * `batch` – which inputs are computed together
//! * `vectors`, `origin` – rows of numbers, and where they come from
//! * [`stream`] – many studies, of files or a corpus: decoded by all cores while the model computes
//! * [`table`] – embeddings as Parquet or NPY
//! * [`classes`], [`zero_shot`], [`calibrate`] – any classes by their sentences, as probabilities
//! * [`predict`] – the head of a fine-tuned model
//! * [`sentences`], [`compare`], [`course`], `series`, `order` – two or more time points of a
//!   subject
//! * [`check`] – whether what is said of them holds on a corpus with labels
//! * [`align`], [`heat`], [`ground`], [`boxes`], [`draw`] – words and patches, both ways; heat maps,
//!   their boxes and pictures
//! * [`reading`] – a report's sentences, each against the pictures
//! * [`display`] – a picture for a screen, and what the model sees of it
//! * [`search`] – nearest studies of an index

pub mod align;
pub(crate) mod batch;
pub mod boxes;
pub mod calibrate;
pub mod check;
pub mod classes;
pub mod compare;
pub mod course;
pub mod display;
pub mod draw;
pub(crate) mod engine;
pub(crate) mod forward;
pub mod ground;
pub mod heat;
mod logistic;
pub(crate) mod order;
pub(crate) mod origin;
pub mod predict;
pub mod preprocessing;
pub mod reading;
pub mod search;
pub mod sentences;
pub(crate) mod series;
pub mod stream;
pub mod table;
pub mod text;
pub(crate) mod vectors;
pub mod zero_shot;

pub use batch::Limits;
pub use engine::Engine;
pub use forward::{EngineRef, ImageVectors};
pub use origin::Origin;
pub use preprocessing::{Preprocessing, Radiograph, Views};
pub use text::{Reader, Text};
pub use vectors::Vectors;
