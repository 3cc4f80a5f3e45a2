//! Whether layers in bfloat16 and in float16 agree with float32: for each part of the loss the
//! cosine of their gradients with those of float32, and the losses of the same steps in each
//! precision. Full-size model with random weights, or a trained one; prints one JSON object.
//!
//! `cargo run --release -p medst --example bench_precision -- [corpus=FOLDER] [model=RUN] [steps=0]
//! [studies=8] [device=cpu|cuda] [tf32=1]`: the first `studies` of a corpus, or random pixels and
//! tokens; `steps` of training in each precision, at the paper's learning rate. With `tf32=0` a GPU
//! multiplies the float32 parts of 16-bit models exactly in the backward pass too.

#[path = "workload/mod.rs"]
mod workload;

use std::path::Path;

use medst_data::report::WordPiece;
use medst_model::loss::{self, Losses};
use medst_model::model::{MedSt, Mode, card};
use medst_model::open;
use medst_train::train::gradients::{Differentiated, Gradients};
use medst_train::train::loss_scale::LossScale;
use medst_train::train::optimizer::AdamW;
use serde_json::{Map, Value, json};
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

const ROUNDED: [(&str, Kind); 2] = [("bfloat16", Kind::BFloat16), ("float16", Kind::Half)];

fn main() -> medst_model::Result<()> {
    let mut workload = Workload::from_arguments()?;
    let usual = WordPiece::bert_cased();
    let weights = match workload.word("model", "") {
        "" => None,
        run => Some(open::open_model(Path::new(run), Device::Cpu)?),
    };
    if let Some(trained) = &weights {
        workload.config.model = trained.card.model.clone();
    }
    // All precisions are to drop the same units: none.
    workload.config.model.text.dropout = 0.0;
    let steps: usize = workload.number("steps", 0)?;
    let batch = workload.batch_of_corpus(weights.as_ref().map_or(&usual, |trained| &trained.pieces))?;
    let tf32 = workload.number("tf32", 1)? != 0;
    let config = &workload.config;
    let model = |kind| -> medst_model::Result<MedSt> {
        let mut model = MedSt::new(&config.model, 0, workload.device, kind)?;
        if let Some(trained) = &weights {
            model.load(&trained.path.join(card::MODEL))?;
        }
        if !tf32 {
            medst_model::device::allow_tf32(false);
        }
        Ok(model)
    };

    let product = |a: &[Tensor], b: &[Tensor]| -> f64 {
        let own = a.iter().zip(b).map(|(a, b)| (a * b).sum(Kind::Double).double_value(&[]));
        own.sum()
    };
    let norm = |gradients: &[Tensor]| match product(gradients, gradients) {
        square if square.is_finite() => Ok(square.sqrt()),
        _ => Err(medst_model::Error::Training("a gradient is not finite".into())),
    };
    let mut scale = LossScale::default();
    let mut gradient = |kind, part: fn(&Losses) -> &Tensor| -> medst_model::Result<Vec<Tensor>> {
        let model = model(kind)?;
        let scaled = scale.differentiate(kind, norm, |factor| {
            let losses = loss::med_st(&model, &batch, &config.loss, Mode::Train)?;
            let gradients = Gradients::compute(&model, &(part(&losses) * factor));
            Ok(Differentiated { losses: (), gradients })
        })?;
        Ok(scaled.gradients)
    };
    let mut cosines = ROUNDED.map(|_| Map::new());
    for (name, part) in PARTS {
        let float = gradient(Kind::Float, part)?;
        for ((_, kind), cosines) in ROUNDED.iter().zip(&mut cosines) {
            let rounded = gradient(*kind, part)?;
            let cosine = product(&float, &rounded) / (product(&float, &float) * product(&rounded, &rounded)).sqrt();
            cosines.insert(name.into(), cosine.into());
        }
    }

    let curve = |kind| -> medst_model::Result<Vec<f64>> {
        let model = model(kind)?;
        let mut optimizer = AdamW::new(&model, &config.optimizer);
        let mut scale = LossScale::default();
        let step = |_| {
            let scaled = scale.differentiate(
                kind,
                |gradients| optimizer.norm(gradients),
                |factor| {
                    let losses = loss::med_st(&model, &batch, &config.loss, Mode::Train)?;
                    let gradients = Gradients::compute(&model, &(&losses.total * factor));
                    Ok(Differentiated { losses: losses.total.double_value(&[]), gradients })
                },
            )?;
            optimizer.step(&scaled.gradients, config.optimizer.lr, (1.0 / scaled.norm).min(1.0) / scaled.factor);
            Ok(scaled.losses)
        };
        (0..steps).map(step).collect()
    };
    let mut losses = Map::from_iter([("float32".to_string(), json!(curve(Kind::Float)?))]);
    for (name, kind) in ROUNDED {
        losses.insert(name.into(), json!(curve(kind)?));
    }
    let cosines: Map<String, Value> =
        ROUNDED.iter().zip(cosines).map(|((name, _), own)| (name.to_string(), own.into())).collect();
    println!("{}", json!({ "cosine": cosines, "losses": losses }));
    Ok(())
}
