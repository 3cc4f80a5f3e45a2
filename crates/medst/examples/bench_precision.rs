//! Whether layers in bfloat16 give what float32 gives: the cosine of both gradients for each part of the loss, and the losses of the same
//! steps in both precisions. Full-size model with random weights, or a trained one; prints one JSON object.
//!
//! `cargo run --release -p medst --example bench_precision -- [corpus=FOLDER] [model=RUN] [steps=0] [studies=8] [device=cpu|cuda]`: the first
//! `studies` of a corpus, or random pixels and tokens; `steps` of training beside each other, at the paper's learning rate.

#[path = "workload/mod.rs"]
mod workload;

use std::path::Path;

use medst::loss::{self, Losses};
use medst::model::{MedSt, Mode, card};
use medst::train::checkpoint;
use medst::train::gradients::Gradients;
use medst::train::optimizer::AdamW;
use medst_data::report::WordPiece;
use serde_json::json;
use tch::{Device, Kind, Tensor};
use workload::Workload;

type Part = (&'static str, fn(&Losses) -> &Tensor);

const PARTS: [Part; 5] = [
    ("global", |losses| &losses.global),
    ("local", |losses| &losses.local),
    ("forward_mapping", |losses| &losses.forward_mapping),
    ("reverse_mapping", |losses| &losses.reverse_mapping),
    ("total", |losses| &losses.total),
];

fn main() -> medst::Result<()> {
    let mut workload = Workload::from_arguments()?;
    let usual = WordPiece::bert_cased();
    let weights = match workload.word("model", "") {
        "" => None,
        run => Some(checkpoint::open_model(Path::new(run), Device::Cpu)?),
    };
    if let Some(trained) = &weights {
        workload.config.model = trained.card.model.clone();
    }
    // Both precisions are to drop the same units: none.
    workload.config.model.text.dropout = 0.0;
    let steps: usize = workload.number("steps", 0)?;
    let batch = workload.batch_of_corpus(weights.as_ref().map_or(&usual, |trained| &trained.pieces))?;
    let config = &workload.config;
    let model = |kind| -> medst::Result<MedSt> {
        let mut model = MedSt::new(&config.model, 0, workload.device, kind)?;
        if let Some(trained) = &weights {
            model.load(&trained.path.join(card::MODEL))?;
        }
        Ok(model)
    };

    let mut cosines = serde_json::Map::new();
    for (name, part) in PARTS {
        let gradient = |kind| -> medst::Result<Vec<Tensor>> {
            let model = model(kind)?;
            let losses = loss::med_st(&model, &batch, &config.loss, Mode::Train)?;
            Ok(Gradients::of(&model, part(&losses)))
        };
        let (float, rounded) = (gradient(Kind::Float)?, gradient(Kind::BFloat16)?);
        let product = |a: &[Tensor], b: &[Tensor]| -> f64 {
            let own = a.iter().zip(b).map(|(a, b)| (a * b).sum(Kind::Double).double_value(&[]));
            own.sum()
        };
        let cosine = product(&float, &rounded) / (product(&float, &float) * product(&rounded, &rounded)).sqrt();
        cosines.insert(name.into(), cosine.into());
    }

    let curve = |kind| -> medst::Result<Vec<f64>> {
        let model = model(kind)?;
        let mut optimizer = AdamW::new(&model, &config.optimizer);
        let step = |_| {
            let losses = loss::med_st(&model, &batch, &config.loss, Mode::Train)?;
            let gradients = Gradients::of(&model, &losses.total);
            let length = optimizer.norm(&gradients)?;
            optimizer.step(&gradients, config.optimizer.lr, (1.0 / length).min(1.0));
            Ok(losses.total.double_value(&[]))
        };
        (0..steps).map(step).collect()
    };
    let (float, rounded) = (curve(Kind::Float)?, curve(Kind::BFloat16)?);
    println!("{}", json!({ "cosine": cosines, "float32": float, "bfloat16": rounded }));
    Ok(())
}
