//! What comes out of a corpus: training batches, and embeddings of the full-size model with random
//! weights. A phantom cohort is drawn for it in a folder that is removed again.
//!
//! Prints one JSON object: studies per second that 1, 2 and 4 threads turn into training batches;
//! and for each precision the seconds of what `medst embed CORPUS` does (pictures and reports,
//! written to Parquet) without the start of the program, the operations that it needs, and the
//! device's rate of matrix products.
//!
//! `cargo run --release -p medst --example bench_embed -- [key=value …]`; keys and what they are by
//! default: `subjects=300`, `batch=256`, `rounds=3`, `precisions=float32`, several of `float32`,
//! `float16`, `bfloat16` with commas between; `device=cpu|cuda`.

#[path = "workload/mod.rs"]
mod workload;

use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::gather::{DeclaredView, gather};
use medst_data::import::{PrepareOptions, prepare_table};
use medst_data::progress::Silent;
use medst_data::report::{Rule, WordPiece};
use medst_data::split::Split;
use medst_infer::infer::{EngineRef, Limits, Reader, table};
use medst_model::model::MedSt;
use medst_model::model::cost::{self, Load};
use medst_phantom::PhantomOptions;
use medst_train::train::dataset::Dataset;
use serde_json::{Map, json};
use workload::Workload;

fn main() -> medst_model::Result<()> {
    let mut workload = Workload::from_arguments()?;
    let (subjects, rounds) = (workload.number("subjects", 300)?, workload.number("rounds", 3)?.max(1));
    let folder = tempfile::tempdir().map_err(|source| medst_model::Error::Io { path: std::env::temp_dir(), source })?;
    let at = |name: &str| folder.path().join(name);
    medst_phantom::generate(
        &at("cohort"),
        &PhantomOptions { subjects, size: 256, ..PhantomOptions::default() },
        &Silent,
    )?;
    prepare_table(&at("cohort/studies.csv"), &at("corpus"), &PrepareOptions::default(), &Silent)?;
    let (corpus, pieces) = (Corpus::open(&at("corpus"))?, WordPiece::bert_cased());

    let config = &workload.config;
    let dataset = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data)?;
    // The median of some epochs; the first fills the page cache.
    let load = |threads: usize| -> medst_model::Result<f64> {
        let rate = |epoch| workload::loading_rate(&dataset, 64, epoch, threads);
        let mut rates = (0..=rounds as u64).map(rate).collect::<medst_model::Result<Vec<f64>>>()?.split_off(1);
        rates.sort_by(f64::total_cmp);
        Ok(rates[rates.len() / 2])
    };
    let loaded = [1, 2, 4].map(load).into_iter().collect::<medst_model::Result<Vec<f64>>>()?;

    let batch = workload.number("batch", 256)?;
    let gathered = gather(&[at("corpus")], DeclaredView::Auto, Rule::default())?;
    let studies = corpus.studies();
    let laterals: Vec<bool> = studies.iter().map(|study| study.lateral.is_some()).collect();
    let pictures = studies.len() + laterals.iter().filter(|lateral| **lateral).count();
    let window = config.model.text.max_tokens as usize;
    let reports = studies.iter().filter_map(|study| study.report.as_deref());
    let tokens: Vec<i64> = reports.map(|report| pieces.encode(report, window).len() as i64).collect();
    let load = Load { laterals, words: vec![0; tokens.len()], tokens };
    let operations = cost::whole_images(&config.model, &load.laterals) + cost::whole_reports(&config.model, &load);
    medst_model::memory::install_pool();
    let (mut embedded, precisions) = (Map::new(), workload.word("precisions", "float32").to_string());
    for name in precisions.split(',') {
        workload.set_precision(name)?;
        let model = MedSt::new(&workload.config.model, 0, workload.device, workload.kind)?;
        let reader = Reader::new(pieces.clone(), &model.config);
        let engine = EngineRef { limits: Limits::of_images(batch), ..EngineRef::new(&model, &reader) };
        let mut seconds = Vec::new();
        for _ in 0..=rounds {
            let start = Instant::now();
            table::write(engine, &gathered, &at("embeddings.parquet"), false, &Silent)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        // The first time is that of choosing kernels and taking memory.
        let own = json!({ "seconds": seconds.split_off(1), "matrix_rate": workload.matrix_rate() });
        embedded.insert(name.into(), own);
    }
    let result = json!({
        "loaded": loaded,
        "studies": studies.len(),
        "pictures": pictures,
        "batch": batch,
        "operations": operations,
        "embedded": embedded,
    });
    println!("{result}");
    Ok(())
}
