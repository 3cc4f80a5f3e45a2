//! `search`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use medst_infer::infer::search::Filter;
use medst_infer::infer::search::query::LabelCondition;

use super::vision::share;
use super::{Compute, Dicom, Inputs, UseModel};

#[derive(Debug, Subcommand)]
pub enum Search {
    /// Embed studies and write them to an index.
    Index(SearchIndex),
    /// Search an index by image, by text, by both, or by one of its studies.
    Find(Box<SearchFind>),
}

#[derive(Debug, Args)]
pub struct SearchIndex {
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub model: UseModel,
    /// Index folder to create.
    #[arg(long)]
    pub out: PathBuf,
    /// Whether to build a graph for approximate search.
    #[arg(long, value_enum, default_value_t = GraphName::Auto)]
    pub graph: GraphName,
    /// Replace an existing index.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphName {
    /// Only for 500,000 images or more.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
pub struct SearchFind {
    /// Index folder to search.
    pub index: PathBuf,
    /// Find studies that resemble this image.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["text", "study"])]
    pub image: Option<PathBuf>,
    /// The lateral image of the same study.
    #[arg(long, value_name = "FILE", requires = "image")]
    pub lateral: Option<PathBuf>,
    /// Find studies that match this text.
    #[arg(long)]
    pub text: Option<String>,
    /// Find studies that resemble this study of the index.
    #[arg(long, value_name = "ID", conflicts_with = "image")]
    pub study: Option<String>,
    /// Weight of the text where both an image and a text are given: 0 is the image alone.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub text_share: f32,
    /// Number of studies to return.
    #[arg(short = 'k', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Compare the query with the images or with the reports of the index.
    #[arg(long, value_enum, default_value_t = AmongName::Images)]
    pub among: AmongName,
    /// Return only studies of this subject; may be repeated.
    #[arg(long, value_name = "ID")]
    pub subject: Vec<String>,
    /// Leave out studies of this subject; may be repeated.
    #[arg(long, value_name = "ID")]
    pub not_subject: Vec<String>,
    /// Return only studies on or after this date (2020-03-31) or day number.
    #[arg(long, value_name = "DATE", value_parser = Filter::day, allow_hyphen_values = true)]
    pub from: Option<f64>,
    /// Return only studies on or before this date or day number.
    #[arg(long, value_name = "DATE", value_parser = Filter::day, allow_hyphen_values = true)]
    pub to: Option<f64>,
    /// Return only studies with this label: edema, edema=0, or any COLUMN=VALUE; may be repeated.
    #[arg(long, value_name = "LABEL", value_parser = Filter::finding)]
    pub finding: Vec<(String, LabelCondition)>,
    /// Search exactly even if the index has a graph for approximate search.
    #[arg(long)]
    pub exact: bool,
    /// The model that made the index, if it has been moved since.
    #[arg(long)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub how: Compute,
    #[command(flatten)]
    pub dicom: Dicom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AmongName {
    Images,
    Reports,
}
