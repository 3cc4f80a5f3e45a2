//! Times pre-training steps (forward, backward, AdamW) of the full-size model on random pixels and tokens.
//!
//! The batch is the one every comparison uses: 8 studies, one sequence of four, half with a lateral view, reports of 86
//! tokens. Prints one JSON object: seconds of each step, their median, and the peak resident memory.

use medst::loss::config::LossConfig;
use medst::model::config::ModelConfig;
use medst::model::input::{Batch, ImageInput, ReportInput};
use medst::model::{MedSt, Mode};
use tch::{Device, Kind, Tensor};

fn main() {
    let steps: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(3);
    let config = ModelConfig::default();
    let model = MedSt::new(&config, 0, Device::Cpu, Kind::Float).unwrap();
    let pixels = |n: i64| Tensor::randint(256, [n, config.image.size, config.image.size], (Kind::Uint8, Device::Cpu));
    let report = |n: u32| -> Vec<u32> {
        std::iter::once(101).chain((0..84).map(|t| 1000 + (t * 37 + n * 101) % 20000)).chain([102]).collect()
    };
    let reports: Vec<Vec<u32>> = (0..8).map(report).collect();
    let batch = Batch {
        images: ImageInput { frontal: pixels(8), lateral: pixels(4), lateral_rows: vec![0, 2, 4, 6] },
        reports: ReportInput::new(&reports, |id| id % 5 == 0, 102, config.text.max_tokens, config.semantics),
        sequences: Tensor::from_slice(&[0i64, 1, 2, 3]).view([1, 4]),
    };
    let parameters: Vec<Tensor> = model.parameters().iter().map(|p| p.tensor.shallow_clone()).collect();
    for _ in 0..steps {
        let start = std::time::Instant::now();
        let losses = medst::loss::med_st(&model, &batch, &LossConfig::default(), Mode::Train).unwrap();
        let forward = start.elapsed();
        let gradients = Tensor::run_backward(&[losses.total], &parameters, false, false);
        let backward = start.elapsed();
        println!(
            "forward {:.2} backward {:.2} n {}",
            forward.as_secs_f64(),
            (backward - forward).as_secs_f64(),
            gradients.len()
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
