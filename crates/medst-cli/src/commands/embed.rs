//! `medst embed`.

use anyhow::Result;
use medst::embed::table::{self as corpus_table, Options};
use medst::infer::stream::{self, Wanted};
use medst::infer::table;
use medst_data::corpus::Corpus;
use medst_data::gather::is_corpus;

use super::{Output, open};
use crate::args::Embed;
use crate::progress::Reporter;

pub fn run(arguments: &Embed, output: &Output, reporter: &Reporter) -> Result<()> {
    let Embed { inputs, model, out, features } = arguments;
    let numpy = out.extension().is_some_and(|end| end == "npy");
    // A corpus is written to Parquet batch by batch, because its embeddings may not fit into memory.
    if let [path] = inputs.inputs.as_slice()
        && is_corpus(path)
        && !numpy
    {
        let corpus = Corpus::open(path)?;
        let engine = open::model(model)?;
        let options = Options { split: inputs.split, batch: engine.limits.images, features: *features };
        return output.show(&corpus_table::write(engine.embedder(), &corpus, out, &options, reporter)?);
    }
    let gathered = open::inputs(inputs)?;
    let engine = open::model(model)?;
    let wanted = Wanted { images: true, features: *features, reports: true };
    let collected = stream::embed(&engine, &gathered, wanted, reporter)?;
    let embedded = table::write(&gathered, &collected, out)?;
    output.show(&embedded)?;
    open::all_used(embedded.left_out.len(), embedded.studies)
}
