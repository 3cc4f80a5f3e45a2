//! Exact and approximate search at scale, on made-up embeddings:
//! `[IMAGES] [WIDTH] [DIMENSIONS] [graph|exact]`, by default 100,000 images of 512 values that vary
//! in 32 directions (and a little in all others, as embeddings do). One JSON line.

use std::time::Instant;

use medst_data::progress::Silent;
use medst_infer::eval::Vectors;
use medst_infer::infer::search::exact::nearest;
use medst_infer::infer::search::graph::{self, Graph};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

mod workload;

/// Share of a vector's length in all other directions.
const NOISE: f32 = 0.1;

/// A number of about normal distribution.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    (0..6).map(|_| random.random_range(-0.5f32..0.5)).sum::<f32>() * std::f32::consts::SQRT_2
}

fn drawn(rows: usize, width: usize, dimensions: usize, seed: u64) -> Vectors {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let directions: Vec<f32> = (0..dimensions * width).map(|_| normal(&mut random)).collect();
    let one = |row: usize| {
        let mut random = ChaCha8Rng::seed_from_u64(seed + row as u64);
        let mut vector: Vec<f32> = (0..width).map(|_| NOISE * normal(&mut random)).collect();
        for direction in directions.chunks_exact(width) {
            let share = normal(&mut random) / (dimensions as f32).sqrt();
            vector.iter_mut().zip(direction).for_each(|(x, d)| *x += share * d);
        }
        vector
    };
    let values: Vec<f32> = (0..rows).into_par_iter().flat_map_iter(one).collect();
    Vectors::new(values, width).expect("whole rows").unit()
}

/// Milliseconds of the median call.
fn median(asked: &Vectors, mut search: impl FnMut(&[f32])) -> f64 {
    let mut times: Vec<f64> = asked
        .rows()
        .map(|query| {
            let start = Instant::now();
            search(query);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |place: usize, default: usize| arguments.get(place).map_or(default, |text| text.parse().expect("a number"));
    let (count, width, dimensions) = (number(0, 100_000), number(1, 512), number(2, 32));
    let images = drawn(count, width, dimensions, 1);
    let asked = drawn(100, width, dimensions, 1 << 40);
    let all: Vec<usize> = (0..count).collect();
    let exact_ms = median(&asked, |query| _ = nearest(&images, &all, query, 10));
    let mut report =
        serde_json::json!({ "images": count, "width": width, "dimensions": dimensions, "exact_ms": exact_ms });
    if arguments.get(3).is_none_or(|what| what == "graph") {
        let before = workload::resident_bytes("VmRSS:");
        let folder = tempfile::tempdir().expect("a folder");
        let places: Vec<Option<usize>> = (0..count).map(Some).collect();
        let start = Instant::now();
        let recall = graph::build(&images, &places, folder.path(), &Silent).expect("a graph");
        let build = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let graph = Graph::open(folder.path(), count).expect("a graph");
        let open = start.elapsed().as_secs_f64();
        let graph_ms = median(&asked, |query| _ = graph.nearest(query, 10));
        let (mut found, mut wanted) = (0, 0);
        for query in asked.rows() {
            let near = graph.nearest(query, 10);
            let exact = nearest(&images, &all, query, 10);
            wanted += exact.len();
            found += exact.iter().filter(|(row, _)| near.contains(row)).count();
        }
        let files = std::fs::read_dir(folder.path()).expect("a folder").flatten();
        let bytes: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        let own = [
            ("build_s", build),
            ("open_s", open),
            ("graph_ms", graph_ms),
            ("recall_of_images", recall),
            ("recall_of_others", found as f64 / wanted as f64),
            ("mib_of_files", bytes as f64 / 1048576.0),
            ("mib_more", workload::resident_bytes("VmRSS:").saturating_sub(before) as f64 / 1048576.0),
        ];
        for (key, value) in own {
            report[key] = value.into();
        }
    }
    println!("{report}");
}
