//! `eval`.

use std::path::PathBuf;

use clap::Args;
use medst::eval::result::{Protocol, Task};
use medst::eval::suite::Part;
use medst_data::split::Split;

use super::{DeviceName, PrecisionName};

#[derive(Debug, Args)]
pub struct Eval {
    /// What to evaluate: temporal-image, temporal-sentence, zero-shot, linear-probe, retrieval, progression,
    /// sequence-order, grounding; or all, which takes whatever the corpora allow and says why it leaves out the rest.
    #[arg(required = true, value_name = "TASK|all", value_parser = task)]
    pub tasks: Vec<AskedTask>,
    /// A corpus; may be repeated.
    #[arg(long, required = true)]
    pub corpus: Vec<PathBuf>,
    /// A run, a checkpoint, a weight file, or the name of a model that comes with the program (phantom). Several models and
    /// embeddings are compared with the first, on one page with paired differences.
    #[arg(long, required_unless_present_any = ["embeddings", "list_texts"])]
    pub model: Vec<PathBuf>,
    /// Score embeddings of another program: Parquet with study_id, image_embedding and, where there are any,
    /// report_embedding and image_feature; or NPY of image embeddings, a row a study in the order of the corpus. May be
    /// repeated.
    #[arg(long)]
    pub embeddings: Vec<PathBuf>,
    /// Report embeddings in a file of their own, Parquet or NPY; one for each --embeddings, in their order.
    #[arg(long, requires = "embeddings")]
    pub report_embeddings: Vec<PathBuf>,
    /// Embeddings of the texts that the tasks compare: Parquet with text and embedding, or NPY in the order of --list-texts;
    /// one for each --embeddings, in their order.
    #[arg(long, requires = "embeddings")]
    pub text_embeddings: Vec<PathBuf>,
    /// The file of texts, one a line: read with NPY --text-embeddings; without --model and --embeddings it is written, and
    /// nothing is evaluated.
    #[arg(long, conflicts_with = "model")]
    pub list_texts: Option<PathBuf>,
    /// Strict: subject-grouped, with intervals. Reference: what the reference implementation computes. Literature: what
    /// later papers compute, so that their figures compare. Tasks without the protocol use the strict one.
    #[arg(long, value_parser = Protocol::parse, default_value = "strict")]
    pub protocol: Protocol,
    /// The split to evaluate: train, validate, test, or all [default: test; where there is none validate, else all].
    #[arg(long, value_parser = part)]
    pub split: Option<Part>,
    /// The label that a linear probe learns [default: the corpus' class, its findings, or its diagnosis].
    #[arg(long)]
    pub label: Option<String>,
    /// Breaks every figure down by the values of a column, such as sex, age or site, and finds the largest gap; may be
    /// repeated.
    #[arg(long, value_name = "COLUMN")]
    pub by: Vec<String>,
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
    /// Studies at a time; 16 on a CPU and 256 on a GPU where none is given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: Option<u16>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// What the encoders compute in.
    #[arg(long, value_enum, default_value_t = PrecisionName::Float32)]
    pub precision: PrecisionName,
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
