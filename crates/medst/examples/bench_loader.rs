//! Measures how many studies per second one thread reads from a corpus and turns into training
//! batches. Prints one JSON object.
//!
//! `cargo run --release -p medst --example bench_loader -- CORPUS`

#[path = "workload/mod.rs"]
mod workload;

use std::path::Path;

use medst_data::corpus::Corpus;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_model::config::Config;
use medst_train::train::dataset::Dataset;

fn main() -> medst_model::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "demo/corpus".into());
    let config = Config::default();
    let (corpus, pieces) = (Corpus::open(Path::new(&path))?, WordPiece::bert_cased());
    let dataset = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data)?;
    let rate = |epoch| workload::loading_rate(&dataset, config.train.sequences_per_batch, epoch, 1);
    let rates = (0..5).map(rate).collect::<medst_model::Result<Vec<f64>>>()?;
    println!("{}", serde_json::json!({ "studies_per_second": rates }));
    Ok(())
}
