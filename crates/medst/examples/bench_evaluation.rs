//! How long evaluation takes apart from the encoder, on made-up embeddings: `[PAIRS] [STUDIES]`, by
//! default 1,326 pairs (MS-CXR-T) and 100,000 studies. One JSON line.

use std::time::Instant;

use medst_infer::eval::Vectors;
use medst_infer::eval::pairs::ImagePairs;
use medst_infer::eval::result::Protocol;
use medst_infer::eval::tasks::{TemporalImage, best_ranks};
use medst_infer::labels::Course;
use medst_infer::stats::bootstrap::Bootstrap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Embedding width of the paper's model.
const WIDTH: usize = 512;
const FINDINGS: [&str; 5] = ["consolidation", "edema", "pleural_effusion", "pneumonia", "pneumothorax"];

fn drawn(rows: usize, random: &mut ChaCha8Rng) -> Vectors {
    let values = (0..rows * WIDTH).map(|_| random.random_range(-1.0f32..1.0)).collect();
    Vectors::new(values, WIDTH).expect("whole rows").unit()
}

/// Peak memory of this process so far, MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let (count, studies) = (sizes.first().copied().unwrap_or(1326), sizes.get(1).copied().unwrap_or(100_000));
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let pairs = ImagePairs {
        previous: drawn(count, &mut random),
        current: drawn(count, &mut random),
        // 800 patients, as the benchmark has.
        subjects: (0..count).map(|n| (n % 800).to_string()).collect(),
        studies: (0..count).map(|n| [n, n]).collect(),
        findings: FINDINGS
            .map(|name| {
                (name.to_string(), (0..count).map(|_| Course::ALL.get(random.random_range(0..5)).copied()).collect())
            })
            .to_vec(),
    };
    let mut seconds = Vec::new();
    for protocol in [Protocol::Strict, Protocol::Reference] {
        let start = Instant::now();
        TemporalImage { protocol, bootstrap: Bootstrap::default(), ..TemporalImage::default() }
            .evaluate(&pairs)
            .expect("pairs of every course");
        seconds.push(start.elapsed().as_secs_f64());
    }
    let (images, reports) = (drawn(studies, &mut random), drawn(studies, &mut random));
    let held = peak();
    let groups: Vec<u32> = (0..studies as u32).collect();
    let start = Instant::now();
    let (forward, _) = best_ranks(&images, &reports, &groups, false);
    let retrieval = start.elapsed().as_secs_f64();
    let mean = forward.iter().flatten().sum::<f64>() / studies as f64;
    println!(
        "{}",
        serde_json::json!({
            "pairs": count,
            "temporal_image_strict_s": seconds[0],
            "temporal_image_reference_s": seconds[1],
            "studies": studies,
            "retrieval_s": retrieval,
            "retrieval_gflops": 2.0 * (studies * studies * WIDTH) as f64 / retrieval / 1e9,
            "mean_rank": mean,
            "mib_before": held,
            "mib_peak": peak(),
        })
    );
}
