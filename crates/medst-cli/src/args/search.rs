//! `search`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use medst::infer::search::Filter;
use medst::infer::search::query::Wanted;

use super::vision::share;
use super::{Compute, Inputs, UseModel};

#[derive(Debug, Subcommand)]
pub enum Search {
    /// Index studies once.
    Index(SearchIndex),
    /// Ask an index by image, text, image and text, or one of its studies.
    Find(Box<SearchFind>),
}

#[derive(Debug, Args)]
pub struct SearchIndex {
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub model: UseModel,
    /// The index folder to make.
    #[arg(long)]
    pub out: PathBuf,
    /// Whether to build a graph for approximate search.
    #[arg(long, value_enum, default_value_t = GraphName::Auto)]
    pub graph: GraphName,
    /// Replace an index that is already there.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphName {
    /// For 500,000 images and more.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
pub struct SearchFind {
    /// The index.
    pub index: PathBuf,
    /// Studies that resemble this image.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["text", "study"])]
    pub image: Option<PathBuf>,
    /// Its lateral view.
    #[arg(long, value_name = "FILE", requires = "image")]
    pub lateral: Option<PathBuf>,
    /// Studies that this text describes.
    #[arg(long)]
    pub text: Option<String>,
    /// Studies that resemble this one of the index.
    #[arg(long, value_name = "ID", conflicts_with = "image")]
    pub study: Option<String>,
    /// With an image and a text: how much the text counts.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub text_share: f32,
    /// How many studies to find.
    #[arg(short = 'k', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// What is compared with the question.
    #[arg(long, value_enum, default_value_t = AmongName::Images)]
    pub among: AmongName,
    /// Only this subject; may be repeated.
    #[arg(long, value_name = "ID")]
    pub subject: Vec<String>,
    /// Not this subject; may be repeated.
    #[arg(long, value_name = "ID")]
    pub not_subject: Vec<String>,
    /// Not before this date or day.
    #[arg(long, value_name = "DATE", value_parser = Filter::day, allow_hyphen_values = true)]
    pub from: Option<f64>,
    /// Not after this date or day.
    #[arg(long, value_name = "DATE", value_parser = Filter::day, allow_hyphen_values = true)]
    pub to: Option<f64>,
    /// Only studies labelled so: edema, edema=0, or any COLUMN=VALUE; may be repeated.
    #[arg(long, value_name = "LABEL", value_parser = Filter::finding)]
    pub finding: Vec<(String, Wanted)>,
    /// Search exactly also where there is a graph.
    #[arg(long)]
    pub exact: bool,
    /// The model the index was made with, if it is no longer where it was.
    #[arg(long)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub how: Compute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AmongName {
    Images,
    Reports,
}
