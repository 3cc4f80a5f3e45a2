//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use medst_data::sequence::SequenceUnit;
use medst_data::split::Split;

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
    /// Write the embeddings of a corpus to a Parquet file.
    Embed(Embed),
    /// Say what a corpus, a run, a checkpoint or a weight file is.
    Inspect {
        /// A folder or file.
        path: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Phantom {
    /// The folder to make.
    pub out: PathBuf,
    /// Number of patients.
    #[arg(long, default_value_t = 200)]
    pub subjects: u32,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Longest side of the pictures in pixels.
    #[arg(long, default_value_t = 512)]
    pub size: u32,
    /// Also draw an overview of findings and courses to this PNG file.
    #[arg(long)]
    pub sheet: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Prepare {
    /// From a table of images: CSV, gzipped CSV or Parquet with the columns subject_id, view and image, and where known
    /// study_id, day or acquired, report, split and any labels.
    Table(PrepareTable),
}

#[derive(Debug, Args)]
pub struct PrepareTable {
    /// The table; image paths in it are relative to it.
    pub table: PathBuf,
    /// The corpus folder to make.
    #[arg(long)]
    pub out: PathBuf,
    /// Studies of a full sequence.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..))]
    pub sequence_length: u16,
    /// What counts as a step of a sequence.
    #[arg(long, value_enum, default_value_t = Unit::Study)]
    pub sequence_unit: Unit,
    /// Side of the stored pictures in pixels.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..=4096))]
    pub image_size: u16,
    /// Replace a corpus that is already there.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Unit {
    /// A visit; further frontal images of it are alternatives.
    Study,
    /// Every frontal image, as the reference implementation does.
    Image,
}

impl From<Unit> for SequenceUnit {
    fn from(unit: Unit) -> SequenceUnit {
        match unit {
            Unit::Study => SequenceUnit::Study,
            Unit::Image => SequenceUnit::Image,
        }
    }
}

#[derive(Debug, Args)]
pub struct Pretrain {
    /// A TOML file such as configs/pretrain.toml.
    pub config: PathBuf,
    /// Override a key of it, such as optimizer.lr=1e-4; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Continue the run in the configured output folder.
    #[arg(long)]
    pub resume: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// A GPU where there is one, else the CPU.
    Auto,
    Cpu,
    Cuda,
}

#[derive(Debug, Args)]
pub struct Embed {
    /// The corpus.
    pub corpus: PathBuf,
    /// A run, a checkpoint, or a weight file.
    #[arg(long)]
    pub model: PathBuf,
    /// The Parquet file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Only this split: train, validate or test.
    #[arg(long, value_parser = |name: &str| Split::parse(name).ok_or("expected train, validate or test"))]
    pub split: Option<Split>,
    /// Studies at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}
