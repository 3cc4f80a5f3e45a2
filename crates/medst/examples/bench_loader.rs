//! Measures how many studies a second one thread turns from a corpus into training batches. Prints one JSON object.
//!
//! `cargo run --release -p medst --example bench_loader -- CORPUS`

use std::path::Path;
use std::time::Instant;

use medst::config::Config;
use medst::train::dataset::{Crop, Dataset};
use medst::train::loader::Loader;
use medst::train::sampler;
use medst_data::corpus::Corpus;
use medst_data::report::WordPiece;
use medst_data::split::Split;

fn main() -> medst::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "demo/corpus".into());
    let config = Config::default();
    let (corpus, pieces) = (Corpus::open(Path::new(&path))?, WordPiece::bert_cased());
    let dataset = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data)?;
    let mut rates = Vec::new();
    for epoch in 0..5 {
        let batches = sampler::batches(&dataset.sequences, config.train.sequences_per_batch, 0, epoch);
        let start = Instant::now();
        let studies: i64 = std::thread::scope(|scope| {
            let crop = Crop::Random { seed: 0, epoch };
            Loader::start(scope, &dataset, batches, crop, 1)
                .map(|batch| batch.map(|batch| batch.images.studies()))
                .sum::<medst::Result<i64>>()
        })?;
        rates.push(studies as f64 / start.elapsed().as_secs_f64());
    }
    println!("{}", serde_json::json!({ "studies_per_second": rates }));
    Ok(())
}
