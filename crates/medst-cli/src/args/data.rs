//! Options of `phantom` and `prepare`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use medst_data::report::Rule;
use medst_data::sequence::SequenceUnit;
use medst_phantom::{Difficulty, Layout};

use super::{Dicom, by_name};

#[derive(Debug, Args)]
pub struct Phantom {
    /// Folder to create.
    pub out: PathBuf,
    /// Number of patients.
    #[arg(long, default_value_t = 200)]
    pub subjects: u32,
    /// Seed of the cohort; the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Longest side of the images, in pixels.
    #[arg(long, default_value_t = 512)]
    pub size: u32,
    /// plain or hard. Hard has subtle changes, confounding poses and exposures, reports with
    /// misleading priors, and findings that only the lateral view shows.
    #[arg(long, value_parser = difficulty, default_value = "plain")]
    pub difficulty: Difficulty,
    /// How the files are laid out: as a table of images (table), or with the names, tables and
    /// nesting of an archive (such as mimic-cxr-jpg or chexpert; docs/phantom.md lists all), or as
    /// a folder per patient (folders). Several, separated by commas, are written to sub-folders of
    /// these names.
    #[arg(long, value_delimiter = ',', value_parser = layout, default_value = "table")]
    pub layout: Vec<Layout>,
    /// Also draw an overview of findings and their courses to this PNG file.
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
    /// From a table of images: a CSV, gzipped CSV or Parquet file with the columns subject_id, view
    /// and image, and optionally study_id, day or acquired, report, split and any labels.
    Table {
        /// The table. Image paths in it are relative to its folder.
        table: PathBuf,
        /// Keep this column as a label although it seems to identify patients (names, patient
        /// numbers, birth dates). Such columns are left out by default. May be repeated.
        #[arg(long, value_name = "COLUMN")]
        label: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// From MIMIC-CXR-JPG 2.0.0 or 2.1.0, or from the DICOM release MIMIC-CXR. Partial downloads
    /// work.
    MimicCxr {
        /// The folder that contains files/ and the tables.
        root: PathBuf,
        /// The reports: mimic-cxr-reports.zip, the folder it unpacks to, or a sectioned CSV
        /// [default: searched for in ROOT].
        #[arg(long)]
        reports: Option<PathBuf>,
        /// The folder with the metadata, split and CheXpert tables [default: ROOT].
        #[arg(long)]
        tables: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// From MS-CXR-T: pairs of MIMIC-CXR images with the course of five findings, and pairs of
    /// sentences.
    MsCxrT(OnMimic),
    /// From MS-CXR: phrases with boxes on MIMIC-CXR images.
    MsCxr(WithImages),
    /// From Chest ImaGenome: the gold comparisons, pairs of MIMIC-CXR images with the course of
    /// findings.
    Imagenome(OnMimic),
    /// From MI-CXR: questions about series of five MIMIC-CXR images.
    MiCxr(OnMimic),
    /// From CXR-LT 2024: long-tailed labels of MIMIC-CXR images.
    CxrLt(WithImages),
    /// From CheXTemporal: pairs of images of CheXpert, MIMIC-CXR and ReXGradient with five courses
    /// of findings.
    Chextemporal {
        /// The folder with gold_progression_pairs.parquet.
        root: PathBuf,
        /// The folder that the paths of CheXpert's images are relative to. Pairs of a data set
        /// without a folder are left out.
        #[arg(long)]
        chexpert: Option<PathBuf>,
        /// The folder that the paths of MIMIC-CXR's images are relative to.
        #[arg(long)]
        mimic: Option<PathBuf>,
        /// The folder that the paths of ReXGradient's images are relative to.
        #[arg(long)]
        rexgradient: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// From PadChest: the table of images and images/.
    Padchest(Folder),
    /// From PadChest-GR: sentences with boxes and the change since a prior study.
    PadchestGr(Folder),
    /// From ReXGradient-160K: metadata/ and deid_png/, or the parts of its archive, which are not
    /// unpacked.
    Rexgradient(Folder),
    /// From NIH ChestX-ray14: Data_Entry_2017.csv, the lists, the boxes and images/.
    Nih(Folder),
    /// From VinDr-CXR: annotations/, train/ and test/; or train.csv and train/ of the Kaggle
    /// challenge.
    Vindr(Folder),
    /// From SIIM-ACR Pneumothorax: train-rle.csv and dicom-images-train/.
    Siim(Folder),
    /// From RSNA Pneumonia Detection, stage 2: DICOM images and stage_2_train_labels.csv.
    Rsna {
        /// The folder that contains stage_2_train_images/ and stage_2_train_labels.csv.
        root: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// From COVIDx: train/, test/ and their lists of images.
    Covidx {
        /// The folder that contains the lists.
        root: PathBuf,
        /// How to draw validation images if no list names them.
        #[arg(long, value_enum, default_value_t = Draw::Patient)]
        split_rule: Draw,
        /// Text that the lists' names contain, such as COVIDx6, to choose among several versions.
        #[arg(long)]
        list_version: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// From CheXpert (full or small): train.csv and valid.csv.
    Chexpert(Folder),
    /// From CheXpert Plus: df_chexpert_plus_240401.csv, chexbert_labels/ and train/.
    ChexpertPlus(Folder),
    /// From Open-I, the Indiana University collection: XML reports and PNG or DICOM images.
    OpenI {
        /// The folder that contains reports and images, in any sub-folders.
        root: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// From covid-chestxray-dataset: metadata.csv and images/.
    CovidChestxray {
        /// The folder that contains metadata.csv.
        root: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

/// An archive in one folder.
#[derive(Debug, Args)]
pub struct Folder {
    /// The folder of the archive.
    pub root: PathBuf,
    #[command(flatten)]
    pub how: How,
}

/// Tables about images that are elsewhere.
#[derive(Debug, Args)]
pub struct WithImages {
    /// The folder with the tables.
    pub root: PathBuf,
    /// The MIMIC-CXR(-JPG) folder with the images.
    #[arg(long)]
    pub images: PathBuf,
    #[command(flatten)]
    pub how: How,
}

/// A benchmark on images that MIMIC-CXR's own tables list.
#[derive(Debug, Args)]
pub struct OnMimic {
    /// The folder with the benchmark's files.
    pub root: PathBuf,
    /// The MIMIC-CXR(-JPG) folder with the images.
    #[arg(long)]
    pub images: PathBuf,
    /// The folder with the MIMIC-CXR tables [default: the folder with the images].
    #[arg(long)]
    pub tables: Option<PathBuf>,
    #[command(flatten)]
    pub how: How,
}

/// Options that all sources share.
#[derive(Debug, Args)]
pub struct How {
    /// Corpus to create: a folder, or s3://BUCKET/PREFIX in object storage (see docs/data.md).
    #[arg(long, required_unless_present = "check")]
    pub out: Option<PathBuf>,
    /// Report what the source contains, and write nothing.
    #[arg(long)]
    pub check: bool,
    /// Number of studies in a full sequence.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..))]
    pub sequence_length: u16,
    /// Number of studies between the starts of consecutive sequences of a subject. Sequences
    /// overlap if it is less than the sequence length [default: the sequence length].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub sequence_stride: Option<u16>,
    /// What counts as one step of a sequence.
    #[arg(long, value_enum, default_value_t = Unit::Study)]
    pub sequence_unit: Unit,
    /// Side of the stored images, in pixels.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..=4096))]
    pub image_size: u16,
    /// CSV file with the column split and one of subject_id, study_id, dicom_id or image, which
    /// replaces the splits of the source. Every corpus contains such a file, splits.csv.
    #[arg(long)]
    pub splits: Option<PathBuf>,
    /// CSV file with a column subject_id, study_id or dicom_id, such as the image table of
    /// MS-CXR-T. All subjects that it names are left out. May be repeated.
    #[arg(long)]
    pub exclude: Vec<PathBuf>,
    /// How to clean reports and split them into sentences. Standard recognises the section headers
    /// that hospitals use and does not split at the point of `1.5 cm`; reference follows the
    /// reference implementation, which knows only the headers of MIMIC-CXR and ends a sentence at
    /// every full stop.
    #[arg(long, value_parser = by_name(Rule::ALL, Rule::name), default_value = Rule::Standard.name())]
    pub report_rule: Rule,
    /// Decode every pixel before averaging. This is slower, and changes grey levels by at most 1.
    #[arg(long)]
    pub exact: bool,
    #[command(flatten)]
    pub dicom: Dicom,
    /// Replace an existing corpus.
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Draw {
    /// By patient, so that no patient is in two splits.
    Patient,
    /// By image, as in the reference implementation.
    Reference,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Unit {
    /// A visit; its further frontal images are alternatives to the first.
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
