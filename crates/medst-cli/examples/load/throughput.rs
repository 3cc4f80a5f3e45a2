//! Offline `medst embed` and the service with many clients, in turns, on the same files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use medst_infer::eval::Vectors;

use crate::client::{Body, Client, figure};
use crate::stage::{Result, Stage, cpu_seconds, radiographs};

pub struct ThroughputOptions {
    pub clients: usize,
    pub images: usize,
    pub side: usize,
    /// Times that each way is measured.
    pub rounds: usize,
    pub layout: String,
    /// Radiographs to ask with, in the place of synthetic ones.
    pub folder: Option<PathBuf>,
    /// Names that each gets, so that a round of a quick model lasts long enough to be timed.
    pub copies: usize,
    pub batch: String,
}

impl ThroughputOptions {
    /// Images that a synthetic patient has at least on average.
    fn layout_images(&self) -> usize {
        if self.layout == "rsna" { 1 } else { 3 }
    }
}

/// What a round of the service gave.
struct Round {
    seconds: f64,
    /// Of each request, ascending.
    latencies: Vec<f64>,
    batches: f64,
    vectors: Vec<Vec<f32>>,
    busy: usize,
}

/// Prints the table; says whether answers were those of the command.
pub fn run(stage: &Stage, options: &ThroughputOptions) -> Result<bool> {
    let files = match &options.folder {
        Some(folder) => radiographs(folder)?,
        None => stage.pictures(&options.layout, options.images.div_ceil(options.layout_images()), options.side)?,
    };
    let files: Vec<PathBuf> = files.into_iter().take(options.images).collect();
    let files = copies(stage, files, options.copies)?;
    let bodies: Vec<Vec<u8>> = files.iter().map(fs::read).collect::<std::io::Result<_>>()?;
    let bytes = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len().max(1);
    println!("{} pictures of {} KiB, {} clients", files.len(), bytes >> 10, options.clients);
    let mut serving = stage.serve(&["--batch", &options.batch, "--max-queue", "1024", "--max-requests", "512"])?;
    let (mut offline, mut online, mut worst) = (Vec::new(), Vec::new(), 0.0f32);
    for round in 0..options.rounds {
        let seconds = embed(stage, &files, &options.batch)? - embed(stage, &files[..1], &options.batch)?;
        offline.push((files.len() - 1) as f64 / seconds);
        let used = || [serving.cpu_seconds(), cpu_seconds("/proc/self")];
        let before = used();
        let result = ask(serving.address, &bodies, options.clients)?;
        let after = used();
        let per_image = |n: usize| (after[n] - before[n]) * 1e3 / files.len() as f64;
        online.push(files.len() as f64 / result.seconds);
        worst = worst.max(difference(stage, &files, &result.vectors)?);
        let at = |share: f64| result.latencies[((result.latencies.len() - 1) as f64 * share) as usize] * 1e3;
        println!(
            "{}  offline {:7.2} images/s   service {:7.2} images/s   ratio {:.3}   p50 {:.0} ms  p95 {:.0} ms  p99 {:.0} ms   {:.1} images per batch   CPU per image: service {:.2} ms, clients {:.2} ms   {} told to come back",
            round + 1,
            offline[round],
            online[round],
            online[round] / offline[round],
            at(0.5),
            at(0.95),
            at(0.99),
            files.len() as f64 / result.batches,
            per_image(0),
            per_image(1),
            result.busy,
        );
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (offline, online) = (median(&mut offline), median(&mut online));
    println!("median: offline {offline:.2}, service {online:.2} images/s, ratio {:.3}", online / offline);
    println!("largest difference of an answer from the command's: {worst:.1e}");
    let ended = serving.terminate(std::time::Duration::from_secs(60))?;
    Ok(worst <= 1e-5 && ended == Some(0))
}

/// The files, and further names of them.
fn copies(stage: &Stage, files: Vec<PathBuf>, count: usize) -> Result<Vec<PathBuf>> {
    let mut all = files.clone();
    for copy in 1..count {
        for (number, file) in files.iter().enumerate() {
            let end = file.extension().and_then(|end| end.to_str()).unwrap_or_default();
            let name = stage.path(&format!("copy-{copy}-{number}.{end}"));
            fs::write(&name, of_another_study(fs::read(file)?, copy))?;
            all.push(name);
        }
    }
    Ok(all)
}

/// DICOM files of one study would be joined: the last digits of the study's identifier become
/// another number.
fn of_another_study(mut bytes: Vec<u8>, number: usize) -> Vec<u8> {
    let tag = [0x20, 0, 0x0d, 0, b'U', b'I'];
    if let Some(at) = bytes.windows(tag.len()).position(|window| window == tag) {
        let end = at + 8 + usize::from(bytes[at + 6]);
        let digits = format!("{number:04}");
        // The identifier may end with a zero byte.
        let end = if bytes[end - 1] == 0 { end - 1 } else { end };
        bytes[end - 4..end].copy_from_slice(digits.as_bytes());
    }
    bytes
}

/// Seconds of the command.
fn embed(stage: &Stage, files: &[PathBuf], batch: &str) -> Result<f64> {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut arguments = vec!["-q", "embed", "--model", "model", "--batch", batch, "--out", "offline.npy"];
    arguments.extend(names.iter().map(String::as_str));
    let start = Instant::now();
    stage.run(&arguments)?;
    let seconds = start.elapsed().as_secs_f64();
    if files.len() > 1 {
        for name in ["offline.npy", "offline.csv"] {
            fs::copy(stage.path(name), stage.path(&format!("all-{name}")))?;
        }
    }
    Ok(seconds)
}

fn ask(address: std::net::SocketAddr, pictures: &[Vec<u8>], clients: usize) -> Result<Round> {
    let before = String::from_utf8(Client::new(address).get("/metrics")?.body)?;
    let (next, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let answers = Mutex::new(vec![(0.0, Vec::new()); pictures.len()]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let client_loop = || -> Result<()> {
            let mut client = Client::new(address);
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let Some(picture) = pictures.get(number) else { return Ok(()) };
                let body = Body::parts(&[("frontal", picture, true)]);
                let sent = Instant::now();
                let mut answer = client.post("/v1/embed", &body)?;
                while answer.status == 429 {
                    busy.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    answer = client.post("/v1/embed", &body)?;
                }
                let seconds = sent.elapsed().as_secs_f64();
                if answer.status != 200 {
                    return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)).into());
                }
                answers.lock().map_err(|_| "a client failed")?[number] = (seconds, answer.body);
            }
        };
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(client_loop)).collect();
        all.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let after = String::from_utf8(Client::new(address).get("/metrics")?.body)?;
    let batches = |text: &str| figure(text, "medst_batch_images_count");
    let (mut latencies, mut vectors) = (Vec::new(), Vec::new());
    for (seconds, body) in answers.into_inner().map_err(|_| "a client failed")? {
        let value: serde_json::Value = serde_json::from_slice(&body)?;
        latencies.push(seconds);
        vectors.push(serde_json::from_value(value["studies"][0]["image"].clone())?);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(Round {
        seconds,
        latencies,
        batches: batches(&after) - batches(&before),
        vectors,
        busy: busy.load(Ordering::SeqCst),
    })
}

/// The largest difference of the service's vectors from those that the command wrote.
fn difference(stage: &Stage, files: &[PathBuf], vectors: &[Vec<f32>]) -> Result<f32> {
    let written = Vectors::read_npy(&stage.path("all-offline.npy"))?;
    let mut rows = HashMap::new();
    for (row, record) in csv::Reader::from_path(stage.path("all-offline.csv"))?.records().enumerate() {
        let record = record?;
        rows.insert(Path::new(record.get(4).unwrap_or_default()).to_path_buf(), row);
        if let Some(lateral) = record.get(5).filter(|path| !path.is_empty()) {
            rows.insert(Path::new(lateral).to_path_buf(), row);
        }
    }
    let mut worst = 0.0f32;
    for (file, vector) in files.iter().zip(vectors) {
        let row = *rows.get(file).ok_or_else(|| format!("{}: the command left it out", file.display()))?;
        let apart = vector.iter().zip(written.row(row)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        worst = if vector.len() == written.width() && apart.is_finite() { worst.max(apart) } else { f32::INFINITY };
    }
    Ok(worst)
}
