//! The command line. Each group of commands has its options in a separate file.

mod convert;
mod data;
mod demo;
mod eval;
mod model;
mod search;
mod serve;
mod train;
mod vision;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

pub use convert::{Card, CardFormat, Convert, TargetName};
pub use data::{Draw, Folder, How, OnMimic, Phantom, Prepare, WithImages};
pub use demo::Demo;
pub use eval::{AskedTask, Eval};
pub use model::{Compute, DeviceName, Dicom, Inputs, PrecisionName, UseModel, ViewName};
pub use search::{AmongName, GraphName, Search, SearchFind, SearchIndex};
pub use serve::Serve;
pub use train::{Finetune, Pretrain};
pub use vision::{Compare, Embed, Ground, Predict, ZeroShot};

/// Pre-train, evaluate and use Med-ST: vision-language models of chest radiographs with several
/// views and time.
#[derive(Debug, Parser)]
#[command(name = "medst", version, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only, without progress.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole workflow on synthetic patients, in about three minutes.
    Demo(Demo),
    /// Draw a cohort of synthetic patients: radiographs and reports with known findings.
    Phantom(Phantom),
    /// Build a corpus of radiographs and reports.
    Prepare {
        #[command(subcommand)]
        source: Prepare,
    },
    /// Pre-train a model as described by a configuration file.
    Pretrain(Pretrain),
    /// Train an image encoder and a linear head for one task, as described by a configuration file.
    Finetune(Finetune),
    /// Write embeddings of images and reports to a Parquet or NPY file.
    Embed(Embed),
    /// Classify images by sentences that describe the classes.
    ZeroShot(ZeroShot),
    /// Print the predictions of a fine-tuned model for images.
    Predict(Predict),
    /// Compare two or more time points of a subject.
    Compare(Compare),
    /// Show where an image matches a phrase, and which words match which regions.
    Ground(Ground),
    /// Build an index of studies, and find the most similar ones.
    Search {
        #[command(subcommand)]
        what: Search,
    },
    /// Serve embed, zero-shot, predict, compare, ground and search over HTTP, with a web page.
    Serve(Box<Serve>),
    /// Evaluate a model, or embeddings made by another program.
    Eval(Eval),
    /// Convert weights of other programs into a model, or a model into their formats.
    Convert(Convert),
    /// Write the card of a model or corpus: a description in Markdown with marks where information
    /// is missing.
    Card(Card),
    /// Check every file of a corpus, run, model or index against the checksums from when it was
    /// written.
    Verify {
        /// A folder that medst wrote, a file in one, the name of a model (phantom), or a corpus in
        /// object storage (s3://BUCKET/PREFIX).
        path: PathBuf,
    },
    /// Describe a corpus, a run, a checkpoint or a weight file.
    Inspect {
        /// Folder or file to describe.
        path: PathBuf,
    },
}

/// Parses a value of a library by its name; the help and errors list all names.
fn by_name<T, const N: usize>(all: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let find = move |text: String| all.into_iter().find(|&value| name(value) == text).ok_or("unknown");
    PossibleValuesParser::new(all.map(name)).try_map(find)
}
