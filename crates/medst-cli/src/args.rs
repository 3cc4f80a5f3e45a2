//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use medst::eval::result::Task;
use medst::eval::suite::Part;
use medst_data::phantom::{Difficulty, Layout};
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
    /// Evaluate a model, or embeddings that another program made.
    Eval(Eval),
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
    /// plain, or hard: subtle changes, poses and exposures that confound, reports with misleading priors, findings that only the
    /// lateral view shows.
    #[arg(long, value_parser = difficulty, default_value = "plain")]
    pub difficulty: Difficulty,
    /// How the files lie: a table of images, or real archives' names, tables and nesting. Several, separated by commas, go
    /// into folders of their names.
    #[arg(long, value_delimiter = ',', value_parser = layout, default_value = "table")]
    pub layout: Vec<Layout>,
    /// Also draw an overview of findings and courses to this PNG file.
    #[arg(long)]
    pub sheet: Option<PathBuf>,
}

fn difficulty(name: &str) -> Result<Difficulty, String> {
    let known = Difficulty::ALL.into_iter().find(|difficulty| difficulty.name() == name);
    known.ok_or_else(|| format!("expected {}", Difficulty::ALL.map(Difficulty::name).join(" or ")))
}

fn layout(name: &str) -> Result<Layout, String> {
    let known = Layout::ALL.into_iter().find(|layout| layout.name() == name);
    known.ok_or_else(|| format!("expected {}", Layout::ALL.map(Layout::name).join(", ")))
}

#[derive(Debug, Subcommand)]
pub enum Prepare {
    /// From a table of images: CSV, gzipped CSV or Parquet with the columns subject_id, view and image, and where known
    /// study_id, day or acquired, report, split and any labels.
    Table {
        /// The table; image paths in it are relative to it.
        table: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// From MIMIC-CXR-JPG 2.0.0 or 2.1.0, or from the DICOM release MIMIC-CXR. Partial downloads work.
    MimicCxr {
        /// The folder with files/ and the tables.
        root: PathBuf,
        /// The reports: mimic-cxr-reports.zip, the folder it unpacks to, or a sectioned CSV; looked for in ROOT otherwise.
        #[arg(long)]
        reports: Option<PathBuf>,
        /// The folder with the metadata, split and chexpert tables, if that is not ROOT.
        #[arg(long)]
        tables: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// From MS-CXR-T: pairs of MIMIC-CXR images with the course of five findings, and pairs of sentences.
    MsCxrT {
        /// The folder with the two MS_CXR_T_*.csv files.
        root: PathBuf,
        /// The MIMIC-CXR(-JPG) folder with the images.
        #[arg(long)]
        images: PathBuf,
        /// The folder with the MIMIC-CXR tables, if that is another one.
        #[arg(long)]
        tables: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// From RSNA Pneumonia Detection, stage 2: DICOM images and stage_2_train_labels.csv.
    Rsna {
        /// The folder with stage_2_train_images and the labels.
        root: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// From COVIDx: train/, test/ and their lists.
    Covidx {
        /// The folder with the lists.
        root: PathBuf,
        /// How validation images are drawn where no list names them.
        #[arg(long, value_enum, default_value_t = Draw::Patient)]
        split_rule: Draw,
        /// A part of the lists' names, such as COVIDx6, where there are several.
        #[arg(long)]
        list_version: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// From CheXpert (full or small): train.csv and valid.csv.
    Chexpert {
        /// The folder with train.csv.
        root: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// From Open-I, the Indiana University collection: XML reports and PNG or DICOM images.
    OpenI {
        /// The folder with reports and images, in any sub-folders.
        root: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// From covid-chestxray-dataset: metadata.csv and images/.
    CovidChestxray {
        /// The folder with metadata.csv.
        root: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

/// What all sources share.
#[derive(Debug, Args)]
pub struct How {
    /// The corpus folder to make.
    #[arg(long, required_unless_present = "check")]
    pub out: Option<PathBuf>,
    /// Only say what the source holds; write nothing.
    #[arg(long)]
    pub check: bool,
    /// Studies of a full sequence.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..))]
    pub sequence_length: u16,
    /// Studies between the beginnings of two sequences of a subject; fewer than the length makes them overlap [default:
    /// the sequence length].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub sequence_stride: Option<u16>,
    /// What counts as a step of a sequence.
    #[arg(long, value_enum, default_value_t = Unit::Study)]
    pub sequence_unit: Unit,
    /// Side of the stored pictures in pixels.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..=4096))]
    pub image_size: u16,
    /// A CSV with the column split and one of subject_id, study_id, dicom_id, image: decides instead of the source. Every
    /// corpus has one, splits.csv.
    #[arg(long)]
    pub splits: Option<PathBuf>,
    /// A CSV with the column subject_id, study_id or dicom_id, such as the image table of MS-CXR-T: the subjects it names
    /// are left out. May be repeated.
    #[arg(long)]
    pub exclude: Vec<PathBuf>,
    /// Decode every pixel before averaging; slower, and within one grey level of the fast way.
    #[arg(long)]
    pub exact: bool,
    /// How DICOM values become grey.
    #[arg(long, value_enum, default_value_t = DicomWindow::Declared)]
    pub dicom_window: DicomWindow,
    /// Replace a corpus that is already there.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DicomWindow {
    /// As the object declares: rescale, then the VOI table or window.
    Declared,
    /// The reference implementation's rule: value · 255 / largest value, inverted for MONOCHROME1.
    Reference,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Draw {
    /// By patient: nobody is in two parts.
    Patient,
    /// By image, as the reference implementation does.
    Reference,
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
    /// Also write the image encoder's [CLS] states, which linear probes are trained on.
    #[arg(long)]
    pub features: bool,
    /// Studies at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}

#[derive(Debug, Args)]
pub struct Eval {
    /// What to evaluate: temporal-image, temporal-sentence, zero-shot, linear-probe, retrieval, progression,
    /// sequence-order, grounding; or all, which takes whatever the corpora allow and says why it leaves out the rest.
    #[arg(required = true, value_name = "TASK|all", value_parser = task)]
    pub tasks: Vec<AskedTask>,
    /// A corpus; may be repeated.
    #[arg(long, required = true)]
    pub corpus: Vec<PathBuf>,
    /// A run, a checkpoint, or a weight file.
    #[arg(long, required_unless_present_any = ["embeddings", "list_texts"], conflicts_with = "embeddings")]
    pub model: Option<PathBuf>,
    /// Score embeddings of another program in the place of a model: Parquet with study_id, image_embedding and, where there
    /// are any, report_embedding and image_feature; or NPY of image embeddings, a row a study in the order of the corpus.
    #[arg(long)]
    pub embeddings: Option<PathBuf>,
    /// Report embeddings in a file of their own, Parquet or NPY.
    #[arg(long, requires = "embeddings")]
    pub report_embeddings: Option<PathBuf>,
    /// Embeddings of the texts that the tasks compare: Parquet with text and embedding, or NPY in the order of --list-texts.
    #[arg(long, requires = "embeddings")]
    pub text_embeddings: Option<PathBuf>,
    /// The file of texts, one a line: read with NPY --text-embeddings; without --model and --embeddings it is written, and
    /// nothing is evaluated.
    #[arg(long, conflicts_with = "model")]
    pub list_texts: Option<PathBuf>,
    /// Strict: subject-grouped, with intervals. Reference: what the reference implementation computes.
    #[arg(long, value_enum, default_value_t = ProtocolName::Strict)]
    pub protocol: ProtocolName,
    /// The split to evaluate: train, validate, test, or all [default: test; where there is none validate, else all].
    #[arg(long, value_parser = part)]
    pub split: Option<Part>,
    /// The label that a linear probe learns [default: the corpus' class, its findings, or its diagnosis].
    #[arg(long)]
    pub label: Option<String>,
    /// Bootstrap replicates for the intervals.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub replicates: u32,
    /// The same seed gives the same intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A folder for report.html, report.md and results.json.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// No radiographs and heat maps in the report, such as when it is to be shared.
    #[arg(long)]
    pub no_pictures: bool,
    /// Studies at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}

/// A task, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedTask {
    All,
    One(Task),
}

fn part(name: &str) -> Result<Part, &'static str> {
    let split = || Split::parse(name).map(Part::Of).ok_or("expected train, validate, test or all");
    if name == "all" { Ok(Part::All) } else { split() }
}

fn task(name: &str) -> Result<AskedTask, String> {
    if name == "all" { Ok(AskedTask::All) } else { Task::parse(name).map(AskedTask::One) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolName {
    Strict,
    Reference,
}
