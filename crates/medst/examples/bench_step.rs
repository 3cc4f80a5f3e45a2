//! Times pre-training steps (forward, backward, AdamW) of the full-size model on random pixels and
//! tokens.
//!
//! The batch is the one every comparison uses: 8 studies, one sequence of four, half with a lateral
//! view, reports of 86 tokens. Prints one JSON object: seconds of each step, the peak memory, the
//! operations that a step needs, and the device's rate of matrix products, measured in the same
//! run.
//!
//! `cargo run --release -p medst --example bench_step -- [key=value …]`; keys and what they are by
//! default: `steps=3`, `studies=8`, `side=224` (pixels), `tokens=86`,
//! `precision=float32|bfloat16|float16`, `device=cpu|cuda`, `chunk=0` (`train.encode_studies`),
//! `by_block=0` (1: `train.checkpoint_activations`).

#[path = "workload/mod.rs"]
mod workload;

use std::time::Instant;

use medst_model::loss;
use medst_model::model::{MedSt, Mode, cost};
use medst_train::train::grad_cache::{self, ActivationBudget};
use medst_train::train::gradients::{Differentiated, Gradients};
use medst_train::train::loss_scale::LossScale;
use medst_train::train::optimizer::AdamW;
use workload::Workload;

fn main() -> medst_model::Result<()> {
    let workload = Workload::from_arguments()?;
    let (steps, chunk, by_block) =
        (workload.number("steps", 3)?, workload.number("chunk", 0)?, workload.number("by_block", 0)? != 0);
    // As the command does.
    medst_model::memory::install_pool();
    let config = &workload.config;
    let model = MedSt::new(&config.model, 0, workload.device, workload.kind)?;
    let mut optimizer = AdamW::new(&model, &config.optimizer);
    let batch = workload.batch();
    let studies = batch.images.studies();
    let mut scale = LossScale::default();
    let mut seconds = Vec::new();
    for _ in 0..steps {
        let start = Instant::now();
        let scaled = scale.differentiate(
            workload.kind,
            |gradients| optimizer.norm(gradients),
            |factor| {
                if chunk > 0 || by_block {
                    let budget = ActivationBudget { studies: if chunk > 0 { chunk } else { studies }, by_block };
                    return grad_cache::differentiate(&model, &batch, &config.loss, budget, factor, None);
                }
                let losses = loss::med_st(&model, &batch, &config.loss, Mode::Train)?;
                let gradients = Gradients::compute(&model, &(&losses.total * factor));
                Ok(Differentiated { losses, gradients })
            },
        )?;
        optimizer.step(&scaled.gradients, config.optimizer.lr, 1.0 / scaled.factor);
        workload.wait();
        seconds.push(start.elapsed().as_secs_f64());
    }
    let result = serde_json::json!({
        "seconds": seconds,
        "peak_bytes": workload.peak_bytes(),
        "studies": studies,
        "chunk": chunk,
        "threads": tch::get_num_threads(),
        "operations": cost::step(&config.model, &workload.load(&batch)),
        "matrix_rate": workload.matrix_rate(),
    });
    println!("{result}");
    Ok(())
}
