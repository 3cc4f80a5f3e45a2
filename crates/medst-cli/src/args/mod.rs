//! What can be typed: the options of each group of commands are in a file of their own.

mod convert;
mod data;
mod eval;
mod model;
mod search;
mod serve;
mod train;
mod vision;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use convert::{Card, CardFormat, Convert, TargetName};
pub use data::{Draw, Folder, How, OnMimic, Phantom, Prepare, WithImages};
pub use eval::{AskedTask, Eval, ProtocolName};
pub use model::{Compute, DeviceName, DicomWindow, Inputs, PrecisionName, UseModel, ViewName};
pub use search::{AmongName, GraphName, Search, SearchFind, SearchIndex};
pub use serve::Serve;
pub use train::Pretrain;
pub use vision::{Compare, Embed, Ground, ZeroShot};

/// Pre-train, evaluate and use Med-ST: vision-language models of chest radiographs with several views and time.
#[derive(Debug, Parser)]
#[command(name = "medst", version, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, only results.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw a synthetic cohort of radiographs with reports and known truth.
    Phantom(Phantom),
    /// Make a corpus of radiographs and reports.
    Prepare {
        #[command(subcommand)]
        source: Prepare,
    },
    /// Pre-train a model as a configuration says.
    Pretrain(Pretrain),
    /// Write embeddings of images and reports to a Parquet or NPY file.
    Embed(Embed),
    /// Say which classes images show, by sentences about them.
    ZeroShot(ZeroShot),
    /// Compare two or more time points of a subject.
    Compare(Compare),
    /// Show where a picture resembles a phrase, and which words match which regions.
    Ground(Ground),
    /// Find the nearest studies.
    Search {
        #[command(subcommand)]
        what: Search,
    },
    /// Answer over HTTP what embed, zero-shot, compare, ground and search answer.
    Serve(Box<Serve>),
    /// Evaluate a model, or embeddings that another program made.
    Eval(Eval),
    /// Make a model of other programs' weights, or write one for other programs.
    Convert(Convert),
    /// Write the card of a model or corpus: what it is, in Markdown, and what is yet to be stated.
    Card(Card),
    /// Say what a corpus, a run, a checkpoint or a weight file is.
    Inspect {
        /// A folder or file.
        path: PathBuf,
    },
}
