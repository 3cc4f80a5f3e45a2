//! Predicts the time of a step on a number of processes with an α–β model. A message of `S` bytes
//! takes `α + S/β`, a latency and a bandwidth.
//!
//! * A sum over `N = g·n` processes, `g` on each of `n` nodes:
//!   `launch + 2((g−1)α_in + ⌈log₂ n⌉α_out) + max(2(g−1)/g·S/β_in, 2(n−1)/n·S/β_node)`: trees
//!   between nodes and chains within them, as NCCL models its own (`src/graph/tuning.cc`), at the
//!   bandwidth of a ring (Patarasuk and Yuan, *Bandwidth optimal all-reduce algorithms*, 2009);
//!   both levels work at the same time, the slower one decides.
//! * A gathering of `S` bytes in all: the same with one instead of two, and a ring's latency
//!   between nodes.
//! * Gradients: a bucket is ready when the backward pass has left its stage, and starts when the
//!   one before it is done. The step waits for what is unfinished when the backward pass ends
//!   ([`Step::exposed`]). Where the processor that computes also passes tensors, nothing overlaps.
//! * The step waits for batch statistics, embeddings and control sums ([`volume`]) one by one.
//! * The loss over all pairs is divided among the processes ([`pairs`]).
//! * All processes wait for the one with the most work in a batch ([`imbalance`]).
//!
//! Work is counted by [`cost`] and divided by rates. Everything here is a prediction;
//! `docs/scale.md` compares it with what was measured.

use rand::Rng as _;

use medst_model::config::Config;
use medst_model::distributed::share;
use medst_model::model::cost::{self, Load};
use medst_train::train::sampler::{self, Purpose};

use crate::volume;

/// Between two processes, or of a node's adapters together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Seconds of a message without content.
    pub latency: f64,
    /// Bytes/s in one direction.
    pub bandwidth: f64,
}

/// How processes are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// Processes of a node.
    pub per_node: u64,
    /// Between processes of a node.
    pub inside: Link,
    /// Between nodes: latency of a message, bandwidth of a node.
    pub between: Link,
    /// Seconds before a collective begins.
    pub launch: f64,
    /// Whether gradients are summed while the backward pass runs.
    pub overlapped: bool,
}

impl Network {
    /// Processes of a node, and nodes.
    fn shape(&self, processes: u64) -> (f64, f64) {
        let inside = processes.min(self.per_node);
        (inside as f64, processes.div_ceil(inside.max(1)) as f64)
    }

    /// Seconds of a sum of `bytes`.
    pub fn sum(&self, bytes: f64, processes: u64) -> f64 {
        if processes < 2 {
            return 0.0;
        }
        let (inside, nodes) = self.shape(processes);
        let latency = 2.0 * ((inside - 1.0) * self.inside.latency + nodes.log2().ceil() * self.between.latency);
        self.launch + latency + 2.0 * self.passing(bytes, processes)
    }

    /// Seconds in which all processes get `bytes` together.
    pub fn gather(&self, bytes: f64, processes: u64) -> f64 {
        if processes < 2 {
            return 0.0;
        }
        let (inside, nodes) = self.shape(processes);
        let latency = (inside - 1.0) * self.inside.latency + (nodes - 1.0) * self.between.latency;
        self.launch + latency + self.passing(bytes, processes)
    }

    /// Seconds of one pass around a ring.
    fn passing(&self, bytes: f64, processes: u64) -> f64 {
        let (inside, nodes) = self.shape(processes);
        let of = |members: f64, link: &Link| (members - 1.0) / members * bytes / link.bandwidth;
        of(inside, &self.inside).max(of(nodes, &self.between))
    }
}

/// The rates of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// Operations/s of the encoders.
    pub rate: f64,
    /// Operations/s of heads and losses, which are float32 at any precision of the encoders.
    pub precise_rate: f64,
    /// Bytes/s of its memory.
    pub memory: f64,
    /// Seconds of a step that no work accounts for.
    pub overhead: f64,
}

/// Times that the loss over all pairs reads or writes a matrix of scores, forward and backward, by
/// going through `loss/global.rs`: scores and temperature 3, the gradient's way back 4.
pub const PASSES_OF_SCORES: f64 = 7.0;
/// The same for each direction, images among reports and reports among images: log-softmax 2, its
/// derivative 7.5, the search for the best, assumed to read them five times.
pub const PASSES_OF_A_DIRECTION: f64 = 14.5;

/// The composition of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Studies {
    /// Share of them with a lateral view.
    pub laterals: f64,
    /// Tokens of a report.
    pub tokens: i64,
    pub words: i64,
    /// Share of the sequences that have one study, two, ….
    pub lengths: Vec<f64>,
}

impl Studies {
    /// Studies of a sequence.
    pub fn mean_length(&self) -> f64 {
        (1..).zip(&self.lengths).map(|(length, share)| f64::from(length) * share).sum()
    }

    /// The mean of a number over studies with and without a lateral view.
    fn mean(&self, of: impl Fn(&Load) -> f64) -> f64 {
        let one = |lateral| of(&Load { laterals: vec![lateral], tokens: vec![self.tokens], words: vec![self.words] });
        self.laterals * one(true) + (1.0 - self.laterals) * one(false)
    }
}

/// The seconds of a step, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Encoders, heads and the local loss, forward and backward, of a mean share, and the update.
    pub compute: f64,
    /// Waiting for the process with the most work.
    pub imbalance: f64,
    /// The loss over all pairs of the batch: the process's own images with all reports, its own
    /// reports with all images.
    pub pairs: f64,
    /// Statistics and control sums.
    pub statistics: f64,
    /// Embeddings, and their gradient from the loss over all pairs.
    pub gathering: f64,
    /// Gradients that are unfinished after the backward pass.
    pub exposed: f64,
}

impl Step {
    pub fn seconds(&self) -> f64 {
        self.compute + self.imbalance + self.pairs + self.statistics + self.gathering + self.exposed
    }
}

/// The seconds of a step of `studies` in all.
///
/// * `imbalance`: the most work of a process over the mean of all, at least 1.
pub fn step(
    config: &Config,
    device: &Device,
    network: &Network,
    batch: &Studies,
    studies: f64,
    processes: u64,
    imbalance: f64,
) -> Step {
    let studies_here = studies / processes as f64;
    let model = &config.model;
    let heads = batch.mean(|load| cost::heads(model, load) + cost::local(model, load));
    let image =
        batch.mean(|load| cost::images(model, &load.laterals)) - batch.mean(|load| cost::image_heads(model, load));
    let report = batch.mean(|load| cost::reports(model, load)) - batch.mean(|load| cost::report_heads(model, load));
    let forward = studies_here * ((image + report) / device.rate + heads / device.precise_rate);
    let of_heads = 2.0 * studies_here * heads / device.precise_rate;
    let [of_image, of_report] = [image, report].map(|operations| 2.0 * studies_here * operations / device.rate);

    let traffic = volume::step(config, studies as u64);
    let buckets = volume::buckets(model);
    let parameters: u64 = buckets.iter().sum();
    let element = volume::element(config) as f64;
    // Values, gradients and two moments read, all but the gradients written.
    let update = 7.0 * element * parameters as f64 / device.memory;

    // The heads' bucket is ready at once, those of an encoder's stages one after the other.
    let (stages, layers) = (model.image.num_layers as usize + 2, model.text.num_layers as usize + 1);
    let of_image = of_image * imbalance;
    let of_report = of_report * imbalance;
    let end = of_image + of_report;
    let ready = |number: usize| match number {
        0 => 0.0,
        number if number <= stages => of_image * number as f64 / stages as f64,
        number => of_image + of_report * (number - stages) as f64 / layers as f64,
    };
    let through = buckets.iter().enumerate().fold(0.0f64, |through, (number, &elements)| {
        let begin = if network.overlapped { through.max(ready(number)) } else { through };
        begin + network.sum(elements as f64 * element, processes)
    });
    let exposed = if network.overlapped { (through - end).max(0.0) } else { through };

    let compute = forward + of_heads + (of_image + of_report) / imbalance;
    let control = network.sum(volume::LOSSES as f64 * element, processes) + network.sum(8.0, processes);
    let statistics: f64 = volume::statistics(config).iter().map(|&bytes| network.sum(bytes as f64, processes)).sum();
    Step {
        compute: compute + update + device.overhead,
        imbalance: compute * (imbalance - 1.0),
        pairs: pairs(config, device, studies, processes),
        statistics: statistics + control,
        gathering: network.gather(traffic.gathered_bytes as f64, processes)
            + network.sum(studies * volume::embeddings(config) as f64, processes),
        exposed,
    }
}

/// The loss over all pairs. A process alone scores each once; several score their own images and
/// their own reports apart.
pub fn pairs(config: &Config, device: &Device, studies: f64, processes: u64) -> f64 {
    let matrices = if processes == 1 { 1.0 } else { 2.0 };
    let scores = studies * studies / processes as f64;
    let products = 6.0 * matrices * scores * config.model.projection.embedding as f64 / device.precise_rate;
    let passes = matrices * PASSES_OF_SCORES + 2.0 * PASSES_OF_A_DIRECTION;
    products + passes * volume::element(config) as f64 * scores / device.memory
}

/// The most work of a process over the mean of all, averaged over some random batches: sequences
/// are not split, and some studies have two views.
///
/// * `sequences`: of a batch.
pub fn imbalance(config: &Config, batch: &Studies, sequences: usize, processes: u64) -> f64 {
    let images = |lateral| cost::images(&config.model, &[lateral]);
    let report = batch.mean(|load| cost::reports(&config.model, load));
    let draws = 8;
    let mut random = sampler::random(7, [sequences as u64, processes], Purpose::Simulation);
    let mut one = || {
        let lengths: Vec<usize> = (0..sequences)
            .map(|_| {
                let place: f64 = random.random();
                let mut sum = 0.0;
                let below = batch.lengths.iter().take_while(|&&share| {
                    sum += share;
                    sum <= place
                });
                (below.count() + 1).min(batch.lengths.len())
            })
            .collect();
        let work: Vec<f64> = share::shares(&lengths, processes as usize)
            .into_iter()
            .map(|part| {
                let studies: usize = lengths[part].iter().sum();
                (0..studies).map(|_| report + images(random.random_bool(batch.laterals))).sum()
            })
            .collect();
        let most = work.iter().copied().fold(0.0, f64::max);
        most / (work.iter().sum::<f64>() / processes as f64)
    };
    (0..draws).map(|_| one()).sum::<f64>() / f64::from(draws)
}

/// Bytes of what each process holds:
/// `[weights and moments, gradients and buckets, activations of its share, the pairs]`.
///
/// * `of_pairs`: number of matrices of the process's own pairs that exist at once.
pub fn memory(config: &Config, batch: &Studies, studies: f64, processes: u64, of_pairs: f64) -> [f64; 4] {
    let model = &config.model;
    let element = volume::element(config) as f64;
    let parameters = volume::parameters(model) as f64;
    // Layers keep 7,680 values per token at a width of 768 (docs/performance.md): ten widths.
    let kept = (config.train.precision.kind().elt_size_in_bytes() as f64).min(element);
    let copy = if kept < element { kept * parameters } else { 0.0 };
    let views = 1.0 + batch.laterals;
    let tokens = 1.0 + views * model.image.patches() as f64;
    let image = 10.0 * tokens * (model.image.hidden_size * model.image.num_layers) as f64;
    let report = 10.0 * (batch.tokens * model.text.hidden_size * model.text.num_layers) as f64;
    let rows = tokens + 1.0 + batch.words as f64;
    // Heads keep the inputs and outputs of the normalisations, and the rows themselves, in full
    // precision.
    let heads = rows
        * (3.0 * model.projection.hidden as f64
            + 3.0 * model.projection.embedding as f64
            + model.image.hidden_size as f64);
    let activations = studies / processes as f64 * ((image + report) * kept + heads * element);
    let pairs = of_pairs * element * studies * studies / processes as f64;
    [3.0 * element * parameters + copy, 2.0 * element * parameters, activations, pairs]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch() -> Studies {
        Studies { laterals: 0.5, tokens: 86, words: 60, lengths: vec![0.25; 4] }
    }

    const DEVICE: Device = Device { rate: 3e14, precise_rate: 3e13, memory: 3e12, overhead: 0.0 };

    fn network(bandwidth: f64, overlapped: bool) -> Network {
        let inside = Link { latency: 1e-6, bandwidth: 4e11 };
        Network { per_node: 8, inside, between: Link { latency: 8e-6, bandwidth }, launch: 6e-6, overlapped }
    }

    #[test]
    fn one_process_waits_for_nobody() {
        let config = Config::default();
        let step = step(&config, &DEVICE, &network(1e11, true), &batch(), 64.0, 1, imbalance(&config, &batch(), 26, 1));
        assert_eq!((step.statistics, step.gathering, step.exposed, step.imbalance), (0.0, 0.0, 0.0, 0.0));
        assert!(step.compute > 0.0 && step.pairs > 0.0);
    }

    #[test]
    fn work_adds_up_to_what_is_counted() {
        let config = Config::default();
        let device = Device { rate: 1e12, precise_rate: 1e12, memory: f64::INFINITY, overhead: 0.0 };
        let step = step(&config, &device, &network(1e11, true), &batch(), 2.0, 1, 1.0);
        let load = Load { laterals: vec![true, false], tokens: vec![86; 2], words: vec![60; 2] };
        let expected = cost::step(&config.model, &load) / 1e12;
        assert!((step.seconds() / expected - 1.0).abs() < 1e-9, "{} {expected}", step.seconds());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        /// A faster network, and gradients that overlap with the backward pass, never cost time; no
        /// sum beats the bound of its bandwidth.
        #[test]
        fn networks_are_ordered(nodes in 1u64..512, gigabytes in 1.0f64..400.0, studies_each in 1.0f64..256.0) {
            let config = Config::default();
            let processes = 8 * nodes;
            let of = |network: &Network| {
                step(&config, &DEVICE, network, &batch(), studies_each * processes as f64, processes, 1.1).seconds()
            };
            let slow = network(gigabytes * 1e9, true);
            prop_assert!(of(&network(2e9 * gigabytes, true)) <= of(&slow));
            let waiting = network(gigabytes * 1e9, false);
            prop_assert!(of(&slow) <= of(&waiting));
            let bound = 2.0 * (nodes - 1) as f64 / nodes as f64 * 1e9 / slow.between.bandwidth;
            prop_assert!(slow.sum(1e9, processes) >= bound && slow.gather(1e9, processes) >= bound / 2.0);
        }
    }

    #[test]
    fn more_processes_wait_longer_for_the_slowest_and_larger_shares_less() {
        let config = Config::default();
        let of =
            |sequences: usize, processes: u64| imbalance(&config, &batch(), sequences * processes as usize, processes);
        assert_eq!(of(26, 1), 1.0);
        assert!(of(26, 8) < of(26, 512));
        assert!(of(100, 64) < of(4, 64));
    }
}
