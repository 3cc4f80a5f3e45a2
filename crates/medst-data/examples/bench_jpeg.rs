//! Times the way from a radiograph of 3056×2544 pixels to the corpus, on one core.
//!
//! `cargo run --release -p medst-data --example bench_jpeg -- [FILE]` writes the picture to FILE,
//! so that another program can be timed on it, and prints one JSON object: its size, pictures per
//! second the fast way and the exact way, and the largest difference between both in grey levels.

use std::time::Instant;

use jpeg_encoder::{ColorType, Encoder};
use medst_data::image::{self, Decoding};

const WIDTH: u16 = 2544;
const HEIGHT: u16 = 3056;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "target/bench/radiograph.jpg".into());
    let path = std::path::Path::new(&path);
    std::fs::create_dir_all(path.parent().ok_or("FILE has no folder")?)?;
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, 95).encode(&radiograph(), WIDTH, HEIGHT, ColorType::Luma)?;
    std::fs::write(path, &bytes)?;
    let time = |exact| -> Result<(f64, Vec<u8>), Box<dyn std::error::Error>> {
        let mut seconds: Vec<f64> = Vec::new();
        let mut square = Vec::new();
        for _ in 0..15 {
            let start = Instant::now();
            square = image::square(path, 256, Decoding { exact, ..Decoding::default() })?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok((1.0 / seconds[7], square))
    };
    let ((fast, averaged), (exact, decoded)) = (time(false)?, time(true)?);
    let largest = averaged.iter().zip(&decoded).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    let size = bytes.len();
    println!(
        "{{\"bytes\": {size}, \"fast_per_s\": {fast:.1}, \"exact_per_s\": {exact:.1}, \"largest_difference\": {largest}}}"
    );
    Ok(())
}

/// Smooth anatomy under noise, so that the file is as large as those of the archives (2.7 MB at
/// quality 95).
fn radiograph() -> Vec<u8> {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let mut pixels = Vec::with_capacity(usize::from(WIDTH) * usize::from(HEIGHT));
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (u, v) = (f64::from(x) / f64::from(WIDTH) - 0.5, f64::from(y) / f64::from(HEIGHT) - 0.5);
            let lung = |centre: f64| (-((u - centre).powi(2) * 60.0 + v * v * 12.0)).exp();
            let ribs = 12.0 * (40.0 * v + 8.0 * u * u).sin();
            let grey = 190.0 - 120.0 * (lung(-0.22) + lung(0.22)) + ribs;
            let grain = (noise() + noise() + noise() + noise()) * 8.7;
            let outside = u.abs() > 0.47;
            pixels.push(if outside { 0 } else { (grey + grain).clamp(0.0, 255.0) as u8 });
        }
    }
    pixels
}
