//! Times the collectives of a step: sums and gatherings of float32 tensors of several sizes, as
//! many as a model's largest bucket. Process 0 prints one JSON object: `[bytes, seconds]` of each,
//! the median of several.
//!
//! `mpirun -n 2 target/release/examples/bench_collectives`

use std::time::Instant;

use medst_model::distributed::{Group, mpi::Mpi};
use tch::{Device, Kind, Tensor};

fn main() -> medst_model::Result<()> {
    let group: Group = std::sync::Arc::new(Mpi::join()?);
    tch::set_num_threads(1);
    let (size, sizes) = (group.size(), [1usize, 128, 2049, 16 << 10, 256 << 10, 2 << 20, 8 << 20, 24 << 20]);
    let mut sums = Vec::new();
    let mut gatherings = Vec::new();
    for elements in sizes {
        let repeats = if elements < 1 << 20 { 101 } else { 9 };
        let mut tensor = Tensor::ones([elements as i64], (Kind::Float, Device::Cpu));
        sums.push((4 * elements, median(&group, repeats, || group.sum(&mut tensor))));
        let own = Tensor::ones([elements.div_ceil(size) as i64], (Kind::Float, Device::Cpu));
        let counts = vec![own.size()[0]; size];
        gatherings.push((4 * own.numel() * size, median(&group, repeats, || drop(group.gather(&own, &counts)))));
    }
    if group.leads() {
        println!("{}", serde_json::json!({ "processes": size, "sums": sums, "gatherings": gatherings }));
    }
    Ok(())
}

/// Seconds of a collective that all begin together.
fn median(group: &Group, repeats: usize, mut call: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            group.gather_bytes(&[]);
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
