//! What the commands that use a model share: which model, how it computes, what it looks at.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use medst_data::split::Split;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// A GPU where there is one, else the CPU.
    Auto,
    Cpu,
    Cuda,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// Exact.
    Float32,
    /// Of the two in sixteen bits, which a GPU computes much faster in, the finer.
    Float16,
    /// That with float32's range.
    Bfloat16,
}

/// A model to use.
#[derive(Debug, Args)]
pub struct UseModel {
    /// A run, a checkpoint, a weight file, or the name of a model that comes with the program (phantom).
    #[arg(long)]
    pub model: PathBuf,
    #[command(flatten)]
    pub how: Compute,
}

/// How a model computes.
#[derive(Debug, Args)]
pub struct Compute {
    /// Images at a time; 16 on a CPU and 256 on a GPU where none is given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: Option<u16>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// What the encoders compute in.
    #[arg(long, value_enum, default_value_t = PrecisionName::Float32)]
    pub precision: PrecisionName,
    /// How DICOM values become grey.
    #[arg(long, value_enum, default_value_t = DicomWindow::Declared)]
    pub dicom_window: DicomWindow,
}

/// What is looked at.
#[derive(Debug, Args)]
pub struct Inputs {
    /// A corpus (a folder, or s3://BUCKET/PREFIX); or any files (JPEG, PNG, DICOM, reports as .txt), folders of them, and tables (CSV, Parquet).
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// The view of images whose file does not tell it. A file that tells another is left out.
    #[arg(long, value_enum, default_value_t = ViewName::Auto)]
    pub view: ViewName,
    /// Only this split of a corpus or table: train, validate or test.
    #[arg(long, value_parser = |name: &str| Split::parse(name).ok_or("expected train, validate or test"))]
    pub split: Option<Split>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ViewName {
    /// As DICOM headers say, else frontal.
    Auto,
    Frontal,
    Lateral,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DicomWindow {
    /// As the object declares: rescale, then the VOI table or window.
    Declared,
    /// The reference implementation's rule: value · 255 / largest value, inverted for MONOCHROME1.
    Reference,
}
