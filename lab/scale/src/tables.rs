//! The tables of `docs/scale/tables.md`.

use std::fmt::Write as _;
use std::path::Path;

use medst_model::config::Config;
use medst_model::model::config::Precision;

use crate::forecast::{self, Step, Studies};
use crate::here::{self, BERT_POSITIONS, Measured};
use crate::machines::{self, Cluster};
use crate::volume;

const GPUS: [u64; 10] = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Sequences of a GPU where the batch grows with the GPUs, and of the whole batch where it does
/// not.
const OWN: usize = 32;
const WHOLE: usize = 4096;

/// How the loss over all pairs is computed.
#[derive(Clone, Copy)]
enum Pairs {
    /// Each process scores its own images and reports, as in training.
    Shared,
    /// Every process computes the whole loss, for comparison.
    Alike,
}

struct Case<'a> {
    config: &'a Config,
    batch: &'a Studies,
    /// Number of matrices of the process's own pairs that exist at once.
    of_pairs: f64,
}

impl Case<'_> {
    fn step(&self, cluster: &Cluster, sequences: usize, processes: u64, pairs: Pairs) -> Step {
        let studies = sequences as f64 * self.batch.mean_length();
        let imbalance = forecast::imbalance(self.config, self.batch, sequences, processes);
        let step =
            forecast::step(self.config, &cluster.device, &cluster.network, self.batch, studies, processes, imbalance);
        match pairs {
            Pairs::Shared => step,
            Pairs::Alike => Step { pairs: forecast::pairs(self.config, &cluster.device, studies, 1), ..step },
        }
    }

    /// Weak-scaling efficiency: studies/s per GPU, relative to one GPU with a share of the same
    /// size.
    fn weak(&self, cluster: &Cluster, processes: u64, pairs: Pairs) -> f64 {
        let alone = self.step(cluster, OWN, 1, pairs).seconds();
        alone / self.step(cluster, OWN * processes as usize, processes, pairs).seconds()
    }

    fn memory(&self, sequences: usize, processes: u64) -> [f64; 4] {
        let studies = sequences as f64 * self.batch.mean_length();
        forecast::memory(self.config, self.batch, studies, processes, self.of_pairs)
    }
}

pub fn write(measured: &Measured, folder: &Path) -> medst_model::Result<()> {
    let mut config = Config::default();
    config.train.precision = Precision::BFloat16;
    config.model.text.max_positions = BERT_POSITIONS;
    let batch = measured.studies.studies();
    let parts = measured.pairs.iter().filter(|pair| pair.rows < pair.studies);
    let largest = parts.max_by(|a, b| a.studies.total_cmp(&b.studies));
    let of_pairs = largest.map_or(0.0, |pair| pair.bytes / (4.0 * pair.rows * pair.studies));
    let case = Case { config: &config, batch: &batch, of_pairs };
    let clusters = machines::clusters();

    let mut text = String::from("<!-- made by `make scale` -->\n");
    let mut out = |part: String| text += &part;
    out(volume_table(&case));
    out(here_tables(measured)?);
    out(pairs_table(measured));
    out(machines_table(&clusters));
    out(weak_table(&case, &clusters));
    out(parts_table(&case, &clusters[0]));
    out(strong_table(&case, &clusters));
    out(reached_table(&case));
    out(memory_table(&case));

    let path = folder.join("tables.md");
    std::fs::write(&path, text).map_err(medst_model::Error::io(&path))
}

fn table(title: &str, head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut text = format!("\n### {title}\n\n| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn percent(value: f64) -> String {
    format!("{:.0} %", 100.0 * value)
}

fn thousands(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}

fn milliseconds(seconds: f64) -> String {
    let value = 1e3 * seconds;
    if value < 10.0 { format!("{value:.2}") } else { thousands(value.round() as u64) }
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e6)
}

fn volume_table(case: &Case) -> String {
    let config = case.config;
    let element = 4.0;
    let buckets = volume::buckets(&config.model);
    let statistics = volume::statistics(config);
    let studies = OWN as f64 * case.batch.mean_length();
    let embeddings = 2.0 * element * studies * config.model.projection.embedding as f64;
    let largest = *buckets.iter().max().unwrap_or(&0) as f64 * element;
    table(
        "Volume of a step at full size (derived)",
        &["what", "collectives", "MB"],
        vec![
            vec![
                format!(
                    "gradients ({} parameters, largest bucket {} MB, the last one)",
                    volume::parameters(&config.model),
                    megabytes(largest)
                ),
                buckets.len().to_string(),
                megabytes(buckets.iter().sum::<u64>() as f64 * element),
            ],
            vec![
                "batch statistics".into(),
                statistics.len().to_string(),
                format!("{:.3}", statistics.iter().sum::<u64>() as f64 / 1e6),
            ],
            vec![
                format!("embeddings and their gradient, for {studies:.0} studies in the batch"),
                "2".into(),
                format!("{:.3}", 2.0 * embeddings / 1e6),
            ],
            vec!["losses and accuracies, whether to stop".into(), "2".into(), "0.000".into()],
        ],
    )
}

fn here_tables(measured: &Measured) -> medst_model::Result<String> {
    let mut text = format!("\n{}, {}.\n", measured.machine, measured.date);
    let links = measured.collectives.iter().map(|collective| {
        let network = here::network(measured, collective.processes);
        let worst = collective.sums.iter().map(|&(bytes, seconds)| network.sum(bytes, collective.processes) / seconds);
        let (low, high) = worst.fold((f64::MAX, 0.0f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
        vec![
            collective.processes.to_string(),
            format!("{:.1}", 1e6 * collective.sums[0].1),
            format!("{:.2}", network.inside.bandwidth / 1e9),
            format!("{low:.2} to {high:.2}"),
        ]
    });
    text += &table(
        "Sums of tensors among otherwise idle processes (measured)",
        &[
            "processes",
            "sum of one number, µs",
            "bandwidth of a ring's link, GB/s",
            "predicted / measured time, 4 bytes to 96 MiB",
        ],
        links.collect(),
    );
    for model in &measured.models {
        let (overhead, per_study) = model.line();
        let rows = model.compared(measured)?.into_iter().map(|run| {
            let step = run.predicted;
            let passed = step.statistics + step.gathering + step.exposed;
            vec![
                run.processes.to_string(),
                format!("{:.2}", model.slowdown(run.processes)),
                milliseconds(step.compute + step.pairs),
                milliseconds(step.imbalance),
                milliseconds(passed),
                milliseconds(step.seconds()),
                milliseconds(run.measured),
                format!("{:+.0} %", 100.0 * (step.seconds() / run.measured - 1.0)),
            ]
        });
        text += &table(
            &format!(
                "{}: overhead {} ms, {} ms per study (measured, one process)",
                model.name,
                milliseconds(overhead),
                milliseconds(per_study)
            ),
            &[
                "processes",
                "slowdown by the other programs (measured)",
                "work",
                "waiting for the slowest process",
                "communication",
                "step, predicted, ms",
                "step, measured, ms",
                "error of the prediction",
            ],
            rows.collect(),
        );
    }
    Ok(text)
}

fn pairs_table(measured: &Measured) -> String {
    let rows = measured.pairs.iter().map(|pair| {
        let matrix = 4.0 * pair.rows * pair.studies;
        vec![
            thousands(pair.studies as u64),
            thousands(pair.rows as u64),
            milliseconds(pair.seconds),
            format!("{:.2}", pair.bytes / 1e9),
            format!("{:.1}", pair.bytes / matrix),
        ]
    });
    table(
        "The loss over all pairs, forward and backward (measured on the CPU, one thread)",
        &["studies", "studies of the process", "ms", "GB", "matrices held at once"],
        rows.collect(),
    )
}

fn machines_table(clusters: &[Cluster]) -> String {
    let rows = clusters
        .iter()
        .map(|gpu| vec![gpu.name.to_string(), gpu.source.to_string(), format!("{:.0}", gpu.memory / 1e9)])
        .collect();
    table("Machines (published)", &["name", "source", "GB per GPU"], rows)
}

fn weak_table(case: &Case, clusters: &[Cluster]) -> String {
    let mut rows = Vec::new();
    for (pairs, says) in [(Pairs::Shared, "shared (as implemented)"), (Pairs::Alike, "all pairs on every GPU")] {
        for cluster in clusters {
            let mut row = vec![cluster.name.to_string(), says.to_string()];
            row.extend(GPUS.iter().map(|&processes| percent(case.weak(cluster, processes, pairs))));
            rows.push(row);
        }
    }
    let numbers: Vec<String> = GPUS.iter().map(|&gpus| thousands(gpus)).collect();
    let head: Vec<&str> = ["machine", "pairs"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    table(&format!("Weak scaling, {OWN} sequences per GPU: efficiency by number of GPUs (predicted)"), &head, rows)
}

fn parts_table(case: &Case, cluster: &Cluster) -> String {
    let rows = GPUS.iter().map(|&processes| {
        let step = case.step(cluster, OWN * processes as usize, processes, Pairs::Shared);
        let parts = parts(&step).map(milliseconds);
        let studies = (OWN as f64 * case.batch.mean_length() * processes as f64).round() as u64;
        let all = [thousands(processes), thousands(studies)];
        all.into_iter().chain(parts).chain([milliseconds(step.seconds())]).collect()
    });
    let head: Vec<&str> = ["GPUs", "batch"].into_iter().chain(PARTS).chain(["step"]).collect();
    table(&format!("Where the milliseconds go, {} (predicted)", cluster.name), &head, rows.collect())
}

const PARTS: [&str; 6] = ["work", "slowest share", "statistics", "embeddings", "gradients, exposed", "all pairs"];

fn parts(step: &Step) -> [f64; 6] {
    [step.compute, step.imbalance, step.statistics, step.gathering, step.exposed, step.pairs]
}

fn strong_table(case: &Case, clusters: &[Cluster]) -> String {
    let rows =
        clusters.iter().map(|cluster| {
            let of = |processes: u64| case.step(cluster, WHOLE, processes, Pairs::Shared).seconds();
            let mut row = vec![cluster.name.to_string()];
            row.extend(GPUS.iter().filter(|&&gpus| gpus <= 1024).map(|&gpus| {
                format!("{} ({})", milliseconds(of(gpus)), percent(of(8) * 8.0 / (of(gpus) * gpus as f64)))
            }));
            row
        });
    let numbers: Vec<String> = GPUS.iter().filter(|&&gpus| gpus <= 1024).map(|&gpus| thousands(gpus)).collect();
    let head: Vec<&str> = std::iter::once("machine").chain(numbers.iter().map(String::as_str)).collect();
    let studies = (WHOLE as f64 * case.batch.mean_length()).round() as u64;
    let title = format!(
        "Strong scaling, {} sequences in all ({} studies): ms per step and efficiency relative to 8 GPUs (predicted)",
        thousands(WHOLE as u64),
        thousands(studies)
    );
    table(&title, &head, rows.collect())
}

/// The effect of the assumed share of the matrix rate.
fn reached_table(case: &Case) -> String {
    let rows = [0.2, 0.35, 0.5].map(|reached| {
        let mut cluster = machines::clusters().remove(0);
        cluster.device.rate *= reached / machines::REACHED;
        cluster.device.precise_rate *= reached / machines::REACHED;
        let cells = [8, 64, 512, 4096].map(|gpus| percent(case.weak(&cluster, gpus, Pairs::Shared)));
        let alone = case.step(&cluster, OWN, 1, Pairs::Shared).seconds();
        let studies = OWN as f64 * case.batch.mean_length() / alone;
        [vec![percent(reached), thousands(studies.round() as u64)], cells.to_vec()].concat()
    });
    table(
        "Efficiency for other shares of the matrix rate, H100, InfiniBand NDR (predicted)",
        &["share reached", "studies/s, one GPU", "8", "64", "512", "4,096"],
        rows.to_vec(),
    )
}

fn memory_table(case: &Case) -> String {
    let rows = GPUS.iter().map(|&processes| {
        let parts = case.memory(OWN * processes as usize, processes);
        let all: f64 = parts.iter().sum();
        let cells = parts.into_iter().chain([all]).map(|bytes| format!("{:.1}", bytes / 1e9));
        std::iter::once(thousands(processes)).chain(cells).collect()
    });
    table(
        &format!(
            "Memory per process, {OWN} sequences per GPU, GB (predicted; {:.1} matrices of its pairs held at once: measured)",
            case.of_pairs
        ),
        &["GPUs", "weights, moments", "gradients, buckets", "activations", "all pairs", "total"],
        rows.collect(),
    )
}
