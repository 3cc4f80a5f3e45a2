//! Times pre-training steps (forward, backward, AdamW) of the full-size model on random pixels and tokens.
//!
//! The batch is the one every comparison uses: 8 studies, one sequence of four, half with a lateral view, reports of 86
//! tokens. Prints one JSON object: seconds of each step, and the peak resident memory.
//!
//! `cargo run --release -p medst --example bench_step -- [STEPS] [STUDIES] [CHUNK]`: STUDIES of a larger batch of the same kind, CHUNK of them
//! with the encoders' tape at once (`train.encode_studies`).

use std::time::Instant;

use medst::config::Config;
use medst::loss;
use medst::model::cost::{self, Load};
use medst::model::input::{Batch, ImageInput, Relations, ReportInput};
use medst::model::{MedSt, Mode};
use medst::train::cached;
use medst::train::optimizer::AdamW;
use tch::{Device, Kind, Tensor};

fn main() -> medst::Result<()> {
    let argument =
        |n: usize, default: i64| std::env::args().nth(n).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (steps, studies, chunk) = (argument(1, 3), argument(2, 8), argument(3, 0));
    // As the command does.
    medst::memory::install_pool();
    let config = Config::default();
    let model = MedSt::new(&config.model, 0, Device::Cpu, Kind::Float)?;
    let mut optimizer = AdamW::new(&model, &config.optimizer);
    let batch = batch(&config, studies);
    let mut seconds = Vec::new();
    for _ in 0..steps {
        let start = Instant::now();
        let gradients = if chunk > 0 {
            cached::differentiate(&model, &optimizer, &batch, &config.loss, (chunk, 1.0, 0))?.1
        } else {
            let losses = loss::med_st(&model, &batch, &config.loss, Mode::Train)?;
            optimizer.gradients(&losses.total)
        };
        optimizer.norm(&gradients)?;
        optimizer.step(&gradients, config.optimizer.lr, 1.0);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let result = serde_json::json!({
        "seconds": seconds,
        "peak_bytes": peak_bytes(),
        "studies": batch.images.studies(),
        "threads": tch::get_num_threads(),
        "operations": cost::step(&config.model, &load(&batch)),
        "matrix_rate": matrix_rate(),
    });
    println!("{result}");
    Ok(())
}

fn load(batch: &Batch) -> Load {
    let lengths = |exists: &Tensor| {
        let counts = exists.to_kind(Kind::Int64).sum_dim_intlist([1i64].as_slice(), false, Kind::Int64);
        Vec::<i64>::try_from(counts).expect("whole numbers")
    };
    let laterals = (0..batch.images.studies()).map(|row| batch.images.lateral_rows.contains(&row)).collect();
    Load { laterals, tokens: lengths(&batch.reports.exists), words: lengths(&batch.reports.word_exists()) }
}

/// The machine's rate of float32 matrix products of the model's largest shapes, operations/s: the median of several.
fn matrix_rate() -> f64 {
    let (rows, width, inner) = (2360, 768, 3072);
    let draw = |a, b| Tensor::randn([a, b], (Kind::Float, Device::Cpu));
    let (x, weight) = (draw(rows, width), draw(width, inner));
    let mut rates: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            let _ = x.matmul(&weight);
            2.0 * (rows * width * inner) as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn batch(config: &Config, studies: i64) -> Batch {
    let side = config.model.image.size;
    let pixels = |count: i64| Tensor::randint(256, [count, side, side], (Kind::Uint8, Device::Cpu));
    let reports: Vec<Vec<u32>> = (0..studies as u32)
        .map(|n| std::iter::once(101).chain((0..84).map(|t| 1000 + (t * 37 + n * 101) % 20000)).chain([102]).collect())
        .collect();
    Batch {
        images: ImageInput {
            frontal: pixels(studies),
            lateral: pixels((studies + 1) / 2),
            lateral_rows: (0..studies).step_by(2).collect(),
        },
        reports: ReportInput::new(
            &reports,
            |id| id % 5 == 0,
            102,
            config.model.text.max_tokens,
            config.model.report_rules(),
        ),
        relations: Relations::of_sequences(Tensor::from_slice(&[0i64, 1, 2, 3]).view([1, 4])),
    }
}

/// The largest resident memory of this process so far.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
