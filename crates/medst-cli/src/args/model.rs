//! Options that the commands with a model share: the model, how it computes, and its inputs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use medst_data::image::dicom::Window;
use medst_data::split::Split;

use super::by_name;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// A GPU if there is one, otherwise the CPU.
    Auto,
    Cpu,
    Cuda,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// 32 bits.
    Float32,
    /// 16 bits with finer steps and a narrower range; much faster on a GPU.
    Float16,
    /// 16 bits with float32's range and coarser steps; much faster on a GPU and on a CPU with AMX.
    Bfloat16,
    /// 8 bits in the products of the encoders' layers; two to four times as fast on a CPU with VNNI.
    Int8,
}

/// The model, and how it computes.
#[derive(Debug, Args)]
pub struct UseModel {
    /// The model: a run, a checkpoint, a weight file, the name of a built-in model (phantom), or a
    /// model on a hub (hf://OWNER/NAME[@REVISION]).
    #[arg(long)]
    pub model: PathBuf,
    #[command(flatten)]
    pub how: Compute,
    #[command(flatten)]
    pub dicom: Dicom,
}

/// How a model computes.
#[derive(Debug, Args)]
pub struct Compute {
    /// Images per batch [default: 16 on a CPU, 256 on a GPU].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: Option<u16>,
    /// Device to compute on.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// Number format that the encoders compute in.
    #[arg(long, value_enum, default_value_t = PrecisionName::Float32)]
    pub precision: PrecisionName,
}

/// How DICOM files are read.
#[derive(Debug, Args)]
pub struct Dicom {
    /// How DICOM pixel values are mapped to grey levels. Declared: as the file declares, by the
    /// rescale, then the VOI table or the window. Reference: as in the reference implementation,
    /// value · 255 / largest value, inverted for MONOCHROME1.
    #[arg(
        long = "dicom-window",
        value_parser = by_name(Window::ALL, Window::name),
        default_value = Window::Declared.name()
    )]
    pub window: Window,
}

/// Inputs of a command that uses a model.
#[derive(Debug, Args)]
pub struct Inputs {
    /// A corpus (a folder or s3://BUCKET/PREFIX), or any mix of images (JPEG, PNG, DICOM), reports
    /// (.txt), folders of these, and tables (CSV, Parquet).
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// View to assume where a file states none; files that state another view are skipped.
    #[arg(long, value_enum, default_value_t = ViewName::Auto)]
    pub view: ViewName,
    /// Use only this split of a corpus or table: train, validate or test.
    #[arg(long, value_parser = |name: &str| Split::parse(name).ok_or("expected train, validate or test"))]
    pub split: Option<Split>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ViewName {
    /// The view in the DICOM header; frontal where no header states one.
    Auto,
    Frontal,
    Lateral,
}
