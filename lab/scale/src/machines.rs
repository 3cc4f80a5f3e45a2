//! Machines that were not available, by published figures. Assumptions are marked as such.

use crate::forecast::{Device, Link, Network};

/// A cluster of nodes with eight GPUs.
pub struct Cluster {
    pub name: &'static str,
    pub source: &'static str,
    pub device: Device,
    pub network: Network,
    /// Bytes of a GPU.
    pub memory: f64,
}

/// Assumed: the share of the published matrix rate that a step reaches (of docs/performance.md's
/// CPU it is 0.68 of the measured rate; training on GPUs is reported between 0.3 and 0.5). The text
/// varies it.
pub const REACHED: f64 = 0.35;

/// Assumed: the share of a link's line rate that long messages reach.
pub const LINE: f64 = 0.8;

/// NCCL's own model (`src/graph/tuning.cc`, protocol LL128, trees), seconds: before a collective, a
/// hop of NVLink, a hop of a network.
const LAUNCH: f64 = 4.4e-6;
const NVLINK: f64 = 1.2e-6;
const NET: f64 = 8.5e-6;

/// Assumed: hops of EFA and of TCP over Ethernet.
const EFA: f64 = 20e-6;
const TCP: f64 = 30e-6;

/// bfloat16 and float32 operations/s, bytes/s of memory, bytes: NVIDIA's data sheets, SXM, without
/// sparsity.
const H100: (f64, f64, f64, f64) = (989e12, 67e12, 3.35e12, 80e9);
const A100: (f64, f64, f64, f64) = (312e12, 19.5e12, 2.04e12, 80e9);

/// * `gpu`: as above; `inside`: bytes/s of a GPU's NVLink in one direction; `between`: latency, and
///   bits/s of a node's adapters together.
fn cluster(
    name: &'static str,
    source: &'static str,
    gpu: (f64, f64, f64, f64),
    inside: f64,
    between: (f64, f64),
) -> Cluster {
    let (rate, precise_rate, bandwidth, memory) = gpu;
    Cluster {
        name,
        source,
        // Loading, launching and the logging of a step are not hidden entirely: assumed.
        device: Device {
            rate: REACHED * rate,
            precise_rate: REACHED * precise_rate,
            memory: 0.8 * bandwidth,
            overhead: 2e-3,
        },
        network: Network {
            per_node: 8,
            inside: Link { latency: NVLINK, bandwidth: LINE * inside },
            between: Link { latency: between.0, bandwidth: LINE * between.1 / 8.0 },
            launch: LAUNCH,
            overlapped: true,
        },
        memory,
    }
}

pub fn clusters() -> Vec<Cluster> {
    vec![
        cluster(
            "H100, InfiniBand NDR",
            "NVIDIA DGX H100 data sheet: NVLink 4, 900 GB/s per GPU in both directions together; eight ConnectX-7 of 400 Gb/s per node",
            H100,
            450e9,
            (NET, 3200e9),
        ),
        cluster(
            "H100, EFA (p5)",
            "AWS EC2 p5.48xlarge: eight H100, NVSwitch, 3,200 Gb/s of EFA per node",
            H100,
            450e9,
            (EFA, 3200e9),
        ),
        cluster(
            "A100, InfiniBand HDR",
            "NVIDIA DGX A100 data sheet: NVLink 3, 600 GB/s per GPU in both directions together; eight ConnectX-6 of 200 Gb/s per node",
            A100,
            300e9,
            (NET, 1600e9),
        ),
        cluster(
            "A100, EFA (p4d)",
            "AWS EC2 p4d.24xlarge: eight A100, NVSwitch, 400 Gb/s of EFA per node",
            A100,
            300e9,
            (EFA, 400e9),
        ),
        cluster(
            "H100, one 100 GbE",
            "IEEE 802.3: 100 Gb/s, one adapter for the eight H100 of a node, TCP",
            H100,
            450e9,
            (TCP, 100e9),
        ),
    ]
}
