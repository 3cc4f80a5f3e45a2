//! A model on files: `embed`, `zero-shot`, `compare`, `ground`.

use std::path::PathBuf;

use clap::Args;

use super::{Inputs, UseModel, ViewName};

#[derive(Debug, Args)]
pub struct Embed {
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub model: UseModel,
    /// The file to write: Parquet; or NPY where it ends in .npy, with reports and a list of the rows beside it.
    #[arg(long)]
    pub out: PathBuf,
    /// Also write the image encoder's [CLS] states, which linear probes are trained on.
    #[arg(long)]
    pub features: bool,
}

#[derive(Debug, Args)]
pub struct ZeroShot {
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub model: UseModel,
    /// A class, such as pneumonia; or with sentences that say it, NAME=sentence|sentence. May be repeated.
    #[arg(long = "class", value_name = "NAME", required_unless_present = "classes", conflicts_with = "classes")]
    pub class: Vec<String>,
    /// A TOML file of classes and their sentences.
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Exactly one of the classes is true, such as normal, pneumonia, covid-19.
    #[arg(long, conflicts_with = "classes")]
    pub exclusive: bool,
    /// A file that --fit-calibration made, which turns scores into probabilities.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_calibration")]
    pub calibration: Option<PathBuf>,
    /// Make a calibration from labelled studies (a corpus or table with a column for each class) and write it to this file.
    #[arg(long, value_name = "FILE")]
    pub fit_calibration: Option<PathBuf>,
    /// The column whose values are the exclusive classes, for --fit-calibration.
    #[arg(long, value_name = "COLUMN", requires = "fit_calibration")]
    pub label: Option<String>,
    /// Also write a table of probabilities to this CSV file.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_calibration")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// A time point each, earliest first: a frontal image, and optionally its lateral image, its report (.txt) and
    /// date=2020-03-31, separated by commas; or a folder with one study. With --subject: a corpus or table.
    #[arg(required = true, value_name = "TIME_POINT")]
    pub time_points: Vec<String>,
    #[command(flatten)]
    pub model: UseModel,
    /// The subject of a corpus or table to compare.
    #[arg(long, value_name = "ID")]
    pub subject: Option<String>,
    /// A finding to follow; may be repeated [default: the five of MS-CXR-T].
    #[arg(long, value_name = "NAME")]
    pub finding: Vec<String>,
    /// A file that --fit-calibration made, which turns changes into probabilities.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_calibration")]
    pub calibration: Option<PathBuf>,
    /// Make a calibration from the labelled pairs of a corpus (medst prepare ms-cxr-t) and write it to this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "finding"])]
    pub fit_calibration: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Ground {
    /// The frontal image, or the only one.
    pub image: PathBuf,
    #[command(flatten)]
    pub model: UseModel,
    /// What to look for; may be repeated.
    #[arg(long, required = true, value_name = "TEXT")]
    pub phrase: Vec<String>,
    /// The lateral image of the same study.
    #[arg(long)]
    pub lateral: Option<PathBuf>,
    /// The view of the image if its file does not tell it.
    #[arg(long, value_enum, default_value_t = ViewName::Auto)]
    pub view: ViewName,
    /// The PNG file to draw; with several phrases a folder.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A folder for one PNG file a word.
    #[arg(long, value_name = "FOLDER")]
    pub word_maps: Option<PathBuf>,
    /// Boxes hold what is hotter than this share of the way from the median to the maximum.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub threshold: f32,
    /// With --json: all cosines and attentions of words and patches.
    #[arg(long)]
    pub matrices: bool,
}

pub(super) fn share(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "expected a number")?;
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err("expected a share of at least 0, below 1".into()) }
}
