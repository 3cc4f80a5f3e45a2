//! Options of `embed`, `zero-shot`, `predict`, `compare` and `ground`.

use std::path::PathBuf;

use clap::Args;

use super::{Inputs, UseModel, ViewName};

#[derive(Debug, Args)]
pub struct Embed {
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub model: UseModel,
    /// File to write: Parquet, or NPY if its name ends in .npy (report embeddings and a list of the
    /// rows are then written next to it).
    #[arg(long)]
    pub out: PathBuf,
    /// Also write the image encoder's [CLS] states, on which linear probes are trained.
    #[arg(long)]
    pub features: bool,
}

#[derive(Debug, Args)]
pub struct ZeroShot {
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub model: UseModel,
    /// Class such as pneumonia, or a class with sentences that describe it: NAME=sentence|sentence.
    /// May be repeated.
    #[arg(long = "class", value_name = "NAME", required_unless_present = "classes", conflicts_with = "classes")]
    pub class: Vec<String>,
    /// TOML file of classes and their sentences.
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Treat the classes as mutually exclusive: exactly one applies to each image, as with normal,
    /// pneumonia and covid-19.
    #[arg(long, conflicts_with = "classes")]
    pub exclusive: bool,
    /// Calibration file (made with --fit-calibration) that turns scores into probabilities.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_calibration")]
    pub calibration: Option<PathBuf>,
    /// Fit a calibration to labelled studies (a corpus or table with one column per class) and
    /// write it to this file.
    #[arg(long, value_name = "FILE")]
    pub fit_calibration: Option<PathBuf>,
    /// Column that contains the exclusive class of each study, for --fit-calibration.
    #[arg(long, value_name = "COLUMN", requires = "fit_calibration")]
    pub label: Option<String>,
    /// Also write the probabilities to this CSV file.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_calibration")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Predict {
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub model: UseModel,
    /// Also write the probabilities to this CSV file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// One argument per time point, earliest first: a frontal image and optionally its lateral
    /// image, its report (.txt) and date=2020-03-31, separated by commas; or a folder with one
    /// study. With --subject: a corpus or table instead.
    #[arg(required = true, value_name = "TIME_POINT")]
    pub time_points: Vec<String>,
    #[command(flatten)]
    pub model: UseModel,
    /// Subject of the corpus or table to compare.
    #[arg(long, value_name = "ID")]
    pub subject: Option<String>,
    /// Finding to follow; may be repeated [default: the five of MS-CXR-T].
    #[arg(long, value_name = "NAME")]
    pub finding: Vec<String>,
    /// Calibration file (made with --fit-calibration) that turns changes into probabilities.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_calibration")]
    pub calibration: Option<PathBuf>,
    /// Fit a calibration to the labelled pairs of a corpus (see medst prepare ms-cxr-t) and write
    /// it to this file. A second corpus, whose labels state the findings of every study in a series
    /// and their severity, calibrates the answers about series.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "finding"])]
    pub fit_calibration: Option<PathBuf>,
    /// Check a calibration file on the labelled pairs and series of corpora: accuracy, Brier score,
    /// calibration error.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "finding", "calibration", "fit_calibration"])]
    pub check_calibration: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Ground {
    /// The frontal image, or the only image.
    pub image: PathBuf,
    #[command(flatten)]
    pub model: UseModel,
    /// Phrase to locate; may be repeated.
    #[arg(long, required = true, value_name = "TEXT")]
    pub phrase: Vec<String>,
    /// The lateral image of the same study.
    #[arg(long)]
    pub lateral: Option<PathBuf>,
    /// View of the image if its file states none.
    #[arg(long, value_enum, default_value_t = ViewName::Auto)]
    pub view: ViewName,
    /// PNG file for the heat map, or a folder for those of several phrases.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Folder for heat maps of the single words, one PNG file each.
    #[arg(long, value_name = "FOLDER")]
    pub word_maps: Option<PathBuf>,
    /// Boxes enclose the regions whose similarity exceeds this fraction of the way from the median
    /// (0) to the maximum (1).
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub threshold: f32,
    /// With --json: include all cosines and attention weights between words and patches.
    #[arg(long)]
    pub matrices: bool,
}

pub(super) fn share(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "expected a number")?;
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err("expected a number of at least 0 and below 1".into()) }
}
