//! The model compared with measurements on one machine with processes on its cores.
//!
//! What a prediction for `N` processes uses: steps of one process with several batch sizes (a line
//! through them: overhead and seconds per study), how much slower `N` independent such programs are
//! (cores and memory shared), and sums of tensors among `N` processes that do nothing else (latency
//! and bandwidth). It uses no step of several processes.

use medst_model::config::Config;
use medst_model::model::cost::{self, Load};

use crate::forecast::{self, Device, Link, Network, Step, Studies};
use serde::Deserialize;

/// Rows of BERT's table of positions, which a run that starts from one has, and the measured models
/// had.
pub const BERT_POSITIONS: i64 = 512;

#[derive(Deserialize)]
pub struct Measured {
    pub machine: String,
    pub date: String,
    pub studies: Made,
    pub collectives: Vec<Collectives>,
    pub pairs: Vec<Pairs>,
    pub models: Vec<Model>,
}

/// The composition of batches.
#[derive(Deserialize)]
pub struct Made {
    pub lengths: Vec<f64>,
    pub laterals: f64,
    pub tokens: i64,
    pub words: i64,
}

impl Made {
    pub fn studies(&self) -> Studies {
        Studies { laterals: self.laterals, tokens: self.tokens, words: self.words, lengths: self.lengths.clone() }
    }
}

/// `[bytes, seconds]`.
#[derive(Deserialize)]
pub struct Collectives {
    pub processes: u64,
    pub sums: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
pub struct Pairs {
    pub studies: f64,
    /// Number of studies of the process itself.
    pub rows: f64,
    pub seconds: f64,
    pub bytes: f64,
}

#[derive(Deserialize)]
pub struct Model {
    pub name: String,
    /// Overrides of the configuration, `key=value`.
    pub settings: Vec<String>,
    pub runs: Vec<Run>,
}

#[derive(Deserialize)]
pub struct Run {
    pub processes: u64,
    /// Programs that ran at the same time and knew nothing of each other.
    pub copies: u64,
    pub sequences: usize,
    /// Mean number of studies per step.
    pub studies: f64,
    pub seconds: f64,
}

/// A measured step and what was predicted.
pub struct Compared {
    pub processes: u64,
    pub measured: f64,
    pub predicted: Step,
}

impl Model {
    pub fn config(&self) -> medst_model::Result<Config> {
        let mut config = Config::parse("", &self.settings)?;
        config.model.text.max_positions = BERT_POSITIONS;
        Ok(config)
    }

    fn run(&self, processes: u64, copies: u64, sequences: usize) -> Option<&Run> {
        self.runs.iter().find(|run| (run.processes, run.copies, run.sequences) == (processes, copies, sequences))
    }

    /// Overhead of a step and seconds per study, of one process alone: a line through its runs.
    pub fn line(&self) -> (f64, f64) {
        let alone: Vec<&Run> = self.runs.iter().filter(|run| run.processes == 1 && run.copies == 1).collect();
        let mean = |of: &dyn Fn(&Run) -> f64| alone.iter().map(|run| of(run)).sum::<f64>() / alone.len() as f64;
        let (x, y) = (mean(&|run| run.studies), mean(&|run| run.seconds));
        let slope = mean(&|run| (run.studies - x) * (run.seconds - y)) / mean(&|run| (run.studies - x).powi(2));
        // A line that begins below nothing is noise: then all belongs to the studies.
        if y < slope * x { (0.0, y / x) } else { (y - slope * x, slope) }
    }

    /// The slowdown of a program that runs together with others, `copies` in all.
    pub fn slowdown(&self, copies: u64) -> f64 {
        let of = |run: &&Run| run.processes == 1 && run.copies == copies && copies > 1;
        let Some(together) = self.runs.iter().find(of) else { return 1.0 };
        let alone = self.run(1, 1, together.sequences).expect("the same batch alone was measured too");
        (together.seconds / together.studies) / (alone.seconds / alone.studies)
    }

    /// Steps of several processes.
    pub fn compared(&self, measured: &Measured) -> medst_model::Result<Vec<Compared>> {
        let (config, batch) = (self.config()?, measured.studies.studies());
        let (overhead, per_study) = self.line();
        let one = |lateral| Load { laterals: vec![lateral], tokens: vec![batch.tokens], words: vec![batch.words] };
        let operations = batch.laterals * cost::step(&config.model, &one(true))
            + (1.0 - batch.laterals) * cost::step(&config.model, &one(false));
        let largest = self.runs.iter().map(|run| run.sequences).max().unwrap_or(0);
        let runs = self.runs.iter().filter(|run| run.copies == 1 && run.sequences == largest);
        Ok(runs
            .map(|run| {
                let slower = self.slowdown(run.processes);
                let rate = operations / per_study / slower;
                let device = Device { rate, precise_rate: rate, memory: f64::INFINITY, overhead: overhead * slower };
                let network = network(measured, run.processes);
                let imbalance = forecast::imbalance(&config, &batch, run.sequences, run.processes);
                let predicted =
                    forecast::step(&config, &device, &network, &batch, run.studies, run.processes, imbalance);
                Compared { processes: run.processes, measured: run.seconds, predicted }
            })
            .collect())
    }
}

/// Latency and bandwidth of sums among processes of one machine, from the smallest and the largest
/// tensor.
pub fn network(measured: &Measured, processes: u64) -> Network {
    let nothing = Link { latency: 0.0, bandwidth: f64::INFINITY };
    let none = Network { per_node: processes, inside: nothing, between: nothing, launch: 0.0, overlapped: false };
    let Some(collective) = measured.collectives.iter().find(|collective| collective.processes == processes) else {
        return none;
    };
    let (first, last) = (collective.sums[0], collective.sums[collective.sums.len() - 1]);
    let others = (processes - 1) as f64;
    let latency = first.1 / (2.0 * others);
    let bandwidth = 2.0 * others / processes as f64 * last.0 / (last.1 - first.1);
    Network { inside: Link { latency, bandwidth }, ..none }
}
