//! Med-ST: vision-language pre-training on multi-view, temporal chest radiographs.
//!
//! Yang, Su, Zhao, Wen: "Unlocking the Power of Spatial and Temporal Information in Medical
//! Multimodal Pre-training", ICML 2024, arXiv 2405.19654.
//!
//! This crate re-exports what a program needs. The code is in `medst-data` (studies, reports,
//! images, corpora), `medst-model` (model, losses, configuration, weights), `medst-infer` (a model
//! in use, evaluation) and `medst-train` (pre-training).
//!
//! Embed a radiograph and a sentence with the model that comes with the program, or with any run or
//! checkpoint:
//!
//! ```no_run
//! use medst::tch::Device;
//! use medst::{Engine, Views};
//!
//! let engine = Engine::open("phantom".as_ref(), Device::Cpu)?;
//! let frontal = engine.preprocessing().open("frontal.png".as_ref())?;
//! let images = engine.images(&[&Views::Frontal(frontal)])?.embeddings; // [1, D], unit vectors
//! let texts = engine.texts(&[&engine.reader().prompt("left pleural effusion")?])?;
//! let cosine: f32 = images.row(0).iter().zip(texts.row(0)).map(|(a, b)| a * b).sum();
//! println!("{cosine:.3}");
//! # Ok::<(), medst::Error>(())
//! ```
//!
//! Compare two visits of a patient:
//!
//! ```no_run
//! use medst::tch::Device;
//! use medst::{Engine, Sentences, TimePoint, Views, compare};
//!
//! let engine = Engine::open("phantom".as_ref(), Device::Cpu)?;
//! let visit = |file: &str| -> medst::Result<TimePoint> {
//!     let frontal = engine.preprocessing().open(file.as_ref())?;
//!     Ok(TimePoint { name: file.into(), day: None, views: Views::Frontal(frontal), report: None })
//! };
//! let visits = [visit("monday.png")?, visit("friday.png")?];
//! let comparison = compare(&engine, &visits, &[Sentences::new(&engine, "edema")?], None)?;
//! let change = &comparison.steps[0].findings[0].change;
//! println!("{:+.3} towards worse", change.towards_worse);
//! # Ok::<(), medst::Error>(())
//! ```
//!
//! Evaluate a model on a prepared corpus:
//!
//! ```no_run
//! use medst::data::{corpus::Corpus, progress::Silent};
//! use medst::tch::Device;
//! use medst::{Engine, ModelEncoder, Suite, Task};
//!
//! let engine = Engine::open("runs/pretrain".as_ref(), Device::Cpu)?;
//! let encoder = ModelEncoder::from(&engine);
//! let suite = Suite { tasks: vec![Task::ZeroShot, Task::Retrieval], ..Suite::default() };
//! for result in suite.run(&encoder, &[Corpus::open("corpus".as_ref())?], &Silent)? {
//!     for figure in result.tasks.iter().flat_map(|task| &task.figures) {
//!         println!("{} {}: {:?}", figure.group, figure.name, figure.value);
//!     }
//! }
//! # Ok::<(), medst::Error>(())
//! ```

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub use medst_data as data;
pub use medst_infer::eval::encode::ModelEncoder;
pub use medst_infer::eval::suite::Suite;
pub use medst_infer::infer::Origin;
pub use medst_infer::infer::compare::{TimePoint, compare};
pub use medst_infer::infer::sentences::Sentences;
pub use medst_infer::infer::{Engine, EngineRef, Text, Views};
pub use medst_model::config::Config;
pub use medst_model::open::open_model;
pub use medst_model::task::Task;
pub use medst_model::{Error, Result};
pub use medst_train::train::pretrain;
pub use tch;
