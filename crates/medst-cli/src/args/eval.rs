//! Options of `eval`.

use std::path::PathBuf;

use clap::Args;
use medst_data::split::Split;
use medst_infer::eval::result::{Protocol, Task};
use medst_infer::eval::suite::CorpusPart;
use medst_model::task::UnknownName;

use super::Compute;

#[derive(Debug, Args)]
pub struct Eval {
    /// Task to evaluate: temporal-image, temporal-sentence, temporal-transfer, zero-shot,
    /// linear-probe, retrieval, progression, sequence-order, series-questions or grounding; or all,
    /// which runs every task that the corpora allow and states why it skips the others.
    #[arg(required = true, value_name = "TASK|all", value_parser = task)]
    pub tasks: Vec<AskedTask>,
    /// Corpus to evaluate on; may be repeated.
    #[arg(long, required = true)]
    pub corpus: Vec<PathBuf>,
    /// Model: a run, a checkpoint, a weight file, the name of a built-in model (phantom), or a
    /// model on a hub (hf://OWNER/NAME[@REVISION]). Several models and embeddings are compared with
    /// the first, on one page with paired differences.
    #[arg(long, required_unless_present_any = ["embeddings", "list_texts"])]
    pub model: Vec<PathBuf>,
    /// Evaluate embeddings of another program instead of a model: Parquet with study_id,
    /// image_embedding and optionally report_embedding and image_feature; or NPY with image
    /// embeddings, one row per study in the order of the corpus. May be repeated.
    #[arg(long)]
    pub embeddings: Vec<PathBuf>,
    /// Report embeddings in a separate file, Parquet or NPY; one for each --embeddings, in their
    /// order.
    #[arg(long, requires = "embeddings")]
    pub report_embeddings: Vec<PathBuf>,
    /// Embeddings of the texts that the tasks compare: Parquet with text and embedding, or NPY in
    /// the order of --list-texts; one for each --embeddings, in their order.
    #[arg(long, requires = "embeddings")]
    pub text_embeddings: Vec<PathBuf>,
    /// File with one text per line. With NPY --text-embeddings, names the text of each row. Without
    /// --model and --embeddings, medst writes the texts to embed to this file and evaluates
    /// nothing.
    #[arg(long, conflicts_with = "model")]
    pub list_texts: Option<PathBuf>,
    /// strict: subjects are never split between folds, and figures have intervals. reference: as in
    /// the reference implementation. literature: as in later papers, so that figures can be
    /// compared with theirs. Tasks that lack the chosen protocol use the strict one.
    #[arg(long, default_value = "strict")]
    pub protocol: Protocol,
    /// Split to evaluate: train, validate, test or all [default: test if there is one, otherwise
    /// validate, otherwise all].
    #[arg(long, value_parser = part)]
    pub split: Option<CorpusPart>,
    /// Label that a linear probe learns [default: the corpus' class, findings or diagnosis].
    #[arg(long)]
    pub label: Option<String>,
    /// Break every figure down by the values of a column, such as sex, age or site, and find the
    /// largest gap; may be repeated.
    #[arg(long, value_name = "COLUMN")]
    pub by: Vec<String>,
    /// Number of bootstrap replicates for the intervals.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub replicates: u32,
    /// Seed of the bootstrap; the same seed gives the same intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder to write report.html, report.md and results.json to.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Leave radiographs and heat maps out of the report, for example to share it.
    #[arg(long)]
    pub no_pictures: bool,
    #[command(flatten)]
    pub how: Compute,
}

/// One task, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedTask {
    All,
    One(Task),
}

fn part(name: &str) -> Result<CorpusPart, &'static str> {
    let split = || Split::parse(name).map(CorpusPart::Of).ok_or("expected train, validate, test or all");
    if name == "all" { Ok(CorpusPart::All) } else { split() }
}

fn task(name: &str) -> Result<AskedTask, UnknownName> {
    if name == "all" { Ok(AskedTask::All) } else { name.parse().map(AskedTask::One) }
}
