//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use medst::convert::Input;
use medst::eval::result::Task;
use medst::eval::suite::Part;
use medst::infer::search::Filter;
use medst::infer::search::query::Wanted;
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

/// A model to use.
#[derive(Debug, Args)]
pub struct UseModel {
    /// A run, a checkpoint, or a weight file.
    #[arg(long)]
    pub model: PathBuf,
    #[command(flatten)]
    pub how: Compute,
}

/// How a model computes.
#[derive(Debug, Args)]
pub struct Compute {
    /// Images at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// How DICOM values become grey.
    #[arg(long, value_enum, default_value_t = DicomWindow::Declared)]
    pub dicom_window: DicomWindow,
}

/// What is looked at.
#[derive(Debug, Args)]
pub struct Inputs {
    /// A corpus; or any files (JPEG, PNG, DICOM, reports as .txt), folders of them, and tables (CSV, Parquet).
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

fn share(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "expected a number")?;
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err("expected a share of at least 0, below 1".into()) }
}

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

#[derive(Debug, Args)]
pub struct Serve {
    /// A model to serve, as PATH or NAME=PATH; may be repeated. The first is what requests get that name none.
    #[arg(long, required = true, value_name = "[NAME=]PATH")]
    pub model: Vec<String>,
    /// An index to serve, as PATH or NAME=PATH; may be repeated.
    #[arg(long, value_name = "[NAME=]PATH")]
    pub index: Vec<String>,
    /// A calibration of classes of the first model; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub calibration: Vec<PathBuf>,
    /// A calibration of courses of the first model (medst compare --fit-calibration).
    #[arg(long, value_name = "FILE")]
    pub courses: Option<PathBuf>,
    /// A folder of example patients, a folder each, that the page offers to try it with.
    #[arg(long, value_name = "DIR")]
    pub examples: Option<PathBuf>,
    /// Where to listen. On an address that others can reach, requests must carry a token.
    #[arg(long, default_value = "127.0.0.1:8750")]
    pub bind: SocketAddr,
    /// A file with the bearer token that requests must carry [default: the variable MEDST_TOKEN; else, on an address that
    /// others can reach, one that is drawn and shown].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Ask for no token, whoever can reach the address.
    #[arg(long, conflicts_with = "token_file")]
    pub no_token: bool,
    /// Largest body in MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_body: u32,
    /// Largest picture in millions of pixels.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub max_pixels: u32,
    /// Most requests in progress; more are told to come back.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_requests: u32,
    /// Most jobs that wait for a model; more are told to come back.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_queue: u32,
    /// Seconds for an answer.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub answer_seconds: u32,
    /// Seconds for the requests in progress when it is told to end.
    #[arg(long, default_value_t = 30)]
    pub drain_seconds: u32,
    #[command(flatten)]
    pub how: Compute,
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

#[derive(Debug, Args)]
pub struct Convert {
    /// Files or folders of weights: a run or model of ours, a checkpoint of the reference implementation or of MGCA, a vision
    /// transformer of timm (DeiT, MAE, DINOv2) or of transformers (ViT, RAD-DINO), a BERT. Several make one model together;
    /// image=FILE and text=FILE take one side of a file.
    #[arg(required = true, value_name = "[image=|text=]FILE")]
    pub inputs: Vec<Input>,
    /// The folder to make; with --to reference the file.
    #[arg(long)]
    pub out: PathBuf,
    /// What to write.
    #[arg(long, value_enum, default_value_t = TargetName::Medst)]
    pub to: TargetName,
    /// Sizes of the model, from a configuration's [model] section [default: read off the files].
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Another size, such as model.image.size=384 or model.text.layers=12; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// The report encoder's word pieces [default: vocab.txt beside it, else BERT's cased vocabulary].
    #[arg(long)]
    pub vocabulary: Option<PathBuf>,
    /// Mean of the pixels, in 0 to 1, that the image encoder was trained with: one value or three [default: as
    /// preprocessor_config.json beside it says, else 0.5].
    #[arg(long, value_name = "R,G,B", requires = "pixel_std", value_parser = channels)]
    pub pixel_mean: Option<Channels>,
    /// Their standard deviation.
    #[arg(long, value_name = "R,G,B", requires = "pixel_mean", value_parser = channels)]
    pub pixel_std: Option<Channels>,
    /// On what terms others may use the weights, written into them.
    #[arg(long)]
    pub licence: Option<String>,
    /// Of the weights that no file has.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Replace what an earlier conversion made.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub struct Card {
    /// A run, a model, a checkpoint or a corpus.
    pub path: PathBuf,
    /// results.json of medst eval, whose figures the card of a model then has.
    #[arg(long)]
    pub evaluation: Option<PathBuf>,
    /// The file to write [default: standard output].
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// A value for each colour.
#[derive(Clone, Copy, Debug)]
pub struct Channels(pub [f64; 3]);

fn channels(text: &str) -> Result<Channels, String> {
    let values: Result<Vec<f64>, _> = text.split(',').map(|value| value.trim().parse::<f64>()).collect();
    match values.as_deref() {
        Ok(&[value]) if value.is_finite() => Ok(Channels([value; 3])),
        Ok(&[r, g, b]) if [r, g, b].iter().all(|value| value.is_finite()) => Ok(Channels([r, g, b])),
        _ => Err("expected one number or three, separated by commas".into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// A folder of ours.
    Medst,
    /// One file with the reference implementation's names, for torch.load.
    Reference,
    /// A folder whose parts from_pretrained opens.
    Transformers,
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
