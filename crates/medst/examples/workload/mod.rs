//! What the benches compute on: the full-size model, random pixels and tokens, on a device and in a
//! precision given as `key=value`.

#![allow(dead_code)] // Each bench uses a part.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use medst_data::corpus::Corpus;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_model::config::Config;
use medst_model::model::config::Precision;
use medst_model::model::cost::Load;
use medst_model::model::input::{Batch, ImageInput, Relations, ReportInput};
use medst_model::model::layers;
use medst_model::{Error, Result};
use medst_train::train::dataset::{Crop, Dataset};
use medst_train::train::loader::Loader;
use medst_train::train::sampler;
use tch::{Cuda, Device, Kind, Tensor};

pub struct Workload {
    pub config: Config,
    pub device: Device,
    pub kind: Kind,
    arguments: Vec<(String, String)>,
}

impl Workload {
    /// # Errors
    /// An argument that is not `key=value`, a device that does not exist, sizes that do not make a
    /// model.
    pub fn from_arguments() -> Result<Workload> {
        let wrong = |text: String| Error::Config(format!("`{text}`: expected key=value"));
        let arguments = std::env::args()
            .skip(1)
            .map(|text| match text.split_once('=') {
                Some((key, value)) => Ok((key.to_string(), value.to_string())),
                None => Err(wrong(text)),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut workload = Workload { config: Config::default(), device: Device::Cpu, kind: Kind::Float, arguments };
        if workload.word("device", "cpu") == "cuda" {
            let missing = || Error::Config("device=cuda: there is none, or no libtorch_cuda.so".into());
            workload.device = medst_model::device::cuda().ok_or_else(missing)?;
        }
        let precision = workload.word("precision", "float32").to_string();
        workload.set_precision(&precision)?;
        workload.config.model.image.size = workload.number("side", workload.config.model.image.size)?;
        workload.config.model.validate()?;
        Ok(workload)
    }

    /// # Errors
    /// A name of none.
    pub fn set_precision(&mut self, name: &str) -> Result<()> {
        let precision = serde_json::from_value::<Precision>(name.into());
        self.kind = precision.map_err(|error| Error::Config(format!("precision: {error}")))?.kind();
        Ok(())
    }

    pub fn word<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.arguments.iter().find(|(own, _)| own == key).map_or(default, |(_, value)| value)
    }

    /// # Errors
    /// A value that is not a number; the message names its key.
    pub fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T> {
        match self.arguments.iter().find(|(own, _)| own == key) {
            None => Ok(default),
            Some((_, value)) => value.parse().map_err(|_| Error::Config(format!("{key}={value}: expected a number"))),
        }
    }

    /// Every second study has a lateral view; the first four are a sequence.
    pub fn batch(&self) -> Batch {
        let studies: i64 = self.number("studies", 8).unwrap_or(8);
        let tokens: u32 = self.number("tokens", 86).unwrap_or(86);
        let side = self.config.model.image.size;
        let pixels = |count: i64| Tensor::randint(256, [count, side, side], (Kind::Uint8, Device::Cpu));
        let word = |n: u32, t: u32| 1000 + (t * 37 + n * 101) % 20000;
        let report = |n: u32| [101].into_iter().chain((0..tokens - 2).map(move |t| word(n, t))).chain([102]).collect();
        let reports: Vec<Vec<u32>> = (0..studies as u32).map(report).collect();
        let lateral_rows: Vec<i64> = (0..studies).step_by(2).collect();
        let sequences: Vec<i64> = (0..studies / 4 * 4).take(self.number("sequences", 1).unwrap_or(1) * 4).collect();
        let model = &self.config.model;
        let batch = Batch {
            images: ImageInput { frontal: pixels(studies), lateral: pixels(lateral_rows.len() as i64), lateral_rows },
            reports: ReportInput::new(&reports, |id| id % 5 == 0, 102, model.text.max_tokens, model.semantics),
            relations: Relations::of_sequences(Tensor::from_slice(&sequences).view([-1, 4])),
            truth: None,
        };
        batch.to_device(self.device)
    }

    /// Sequences of `corpus=FOLDER` with together at least as many studies as asked for;
    /// [`Workload::batch`] where none is named.
    ///
    /// # Errors
    /// A corpus that cannot be read.
    pub fn batch_of_corpus(&self, pieces: &WordPiece) -> Result<Batch> {
        let path = self.word("corpus", "");
        if path.is_empty() {
            return Ok(self.batch());
        }
        let corpus = Corpus::open(Path::new(path))?;
        let config = &self.config;
        let dataset = Dataset::new(&corpus, pieces, Split::Train, &config.model, &config.data)?;
        let (wanted, mut studies) = (self.number("studies", 8)?, 0);
        let numbers = 0..dataset.sequences.len();
        let numbers: Vec<usize> = numbers
            .take_while(|&number| {
                let enough = studies >= wanted;
                studies += dataset.sequences[number].len();
                !enough
            })
            .collect();
        Ok(dataset.batch(&numbers, Crop::Centre)?.to_device(self.device))
    }

    pub fn load(&self, batch: &Batch) -> Load {
        let lengths = |exists: &Tensor| {
            let counts = exists.to_kind(Kind::Int64).sum_dim_intlist([1i64].as_slice(), false, Kind::Int64);
            Vec::<i64>::try_from(counts.to_device(Device::Cpu)).expect("whole numbers")
        };
        let laterals = (0..batch.images.studies()).map(|row| batch.images.lateral_rows.contains(&row)).collect();
        Load { laterals, tokens: lengths(&batch.reports.exists), words: lengths(&batch.reports.word_exists()) }
    }

    /// The device's rate of matrix products of the model's largest shapes in the precision of the
    /// layers, by the fastest available library, operations/s: the median of several.
    pub fn matrix_rate(&self) -> f64 {
        let _guard = tch::no_grad_guard();
        // A GPU needs more rows to be busy.
        let rows = if self.device == Device::Cpu { 2360 } else { 65536 };
        let (width, inner) = (768, 3072);
        let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, self.device)).to_kind(self.kind);
        let (x, weight, bias) = (draw(&[rows, width]), draw(&[inner, width]), draw(&[inner]));
        let mut rates: Vec<f64> = (0..15)
            .map(|_| {
                let start = Instant::now();
                let _ = layers::linear(&x, &weight, &bias);
                self.wait();
                2.0 * (rows * width * inner) as f64 / start.elapsed().as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }

    /// Until the device has done everything.
    pub fn wait(&self) {
        if let Device::Cuda(number) = self.device {
            Cuda::synchronize(number as i64);
        }
    }

    /// The largest memory so far: resident, on the CPU; what the whole device holds now, on a GPU
    /// (its allocator gives nothing back).
    pub fn peak_bytes(&self) -> u64 {
        match self.device {
            Device::Cuda(_) => medst_model::device::used_bytes().unwrap_or(0),
            _ => resident_bytes("VmHWM:"),
        }
    }
}

/// A line of the system's figures on this process' memory.
pub fn resident_bytes(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|text| text.strip_prefix(line));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Studies per second that threads turn into training batches, over one epoch.
///
/// # Errors
/// A corpus that cannot be read.
pub fn loading_rate(dataset: &Dataset, sequences: usize, epoch: u64, threads: usize) -> Result<f64> {
    let batches = sampler::batches(&dataset.sequences, sequences, 0, epoch);
    let start = Instant::now();
    let studies: i64 = std::thread::scope(|scope| {
        Loader::start(scope, dataset, batches, Crop::Random { seed: 0, epoch }, threads, Device::Cpu)
            .map(|batch| batch.map(|batch| batch.images.studies()))
            .sum::<Result<i64>>()
    })?;
    Ok(studies as f64 / start.elapsed().as_secs_f64())
}
