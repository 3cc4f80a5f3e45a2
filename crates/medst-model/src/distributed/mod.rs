//! Several processes, one run: data-parallel pre-training. N processes compute the step that one
//! process computes on the whole batch.
//!
//! * [`share`] – which studies of a batch a process embeds; gathering what the losses need of the
//!   others
//! * `sum` – a sum over all processes, as a node of the tape: batch statistics
//! * `mpi`: launch, rendezvous and collectives on a CPU (feature `mpi`)
//! * `nccl`: collectives between GPUs (feature `nccl`)
//!
//! What a step is, on every process:
//! 1. The encoders run over the process's own studies (whole sequences, so that none is split).
//! 2. The projections normalise with the statistics of all processes: sums of `sum`.
//! 3. Global embeddings are gathered. The global loss compares the process's own images with all
//!    reports and its own reports with all images, and the local loss covers its own studies; both
//!    are summed over the processes. Every process computes the temporal losses over the whole
//!    batch.
//! 4. Each process follows the gradient back through its own studies; the gradients that it found
//!    for other processes' embeddings, and those of the statistics, are summed on the way.
//! 5. Gradients of the parameters are summed, and every process makes the same update.
//!
//! How this differs from the reference, which trains with PyTorch's DDP: there each device has
//! separate negatives and batch statistics, and gradients are averaged, so that the number of
//! devices changes what is computed. Here it changes only rounding.

#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "nccl")]
pub mod nccl;
pub mod share;
pub(crate) mod sum;

use std::fmt::{self, Debug, Display};
use std::ops::{Add, Mul};
use std::sync::Arc;

use medst_data::ranks::{Alone, Ranks};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The processes of a run, and how they pass tensors. Calls are collective: all processes make the
/// same ones in the same order. What fails ends the whole job, with a message, because no process
/// can go on without the others.
pub trait Communicator: Ranks + Debug + Send {
    /// Sums a contiguous tensor (float32, float64 or int64) over all processes, in place. All get
    /// the same bits.
    fn sum(&self, tensor: &mut Tensor);

    /// Like [`Communicator::sum`], but called from a separate thread while the device does other
    /// work. Returns when the sum is done.
    fn sum_overlapped(&self, tensor: &mut Tensor) {
        self.sum(tensor);
    }

    /// The rows of all processes in rank order, `[Σ counts, …]`.
    ///
    /// * `own`: contiguous, `[counts[rank], …]`.
    fn gather(&self, own: &Tensor, counts: &[i64]) -> Tensor;

    /// Overwrites a contiguous tensor with that of process 0.
    fn broadcast(&self, tensor: &mut Tensor);

    /// The traffic so far.
    fn traffic(&self) -> Traffic;

    /// This process's rank among those on the same machine, and how many there are.
    fn local(&self) -> (usize, usize) {
        (0, 1)
    }
}

/// Collectives that a process took part in, and the bytes of its tensors in them (the size of the
/// tensors, not what the network moves, which depends on the algorithm).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub sums: u64,
    pub summed_bytes: u64,
    pub gathers: u64,
    /// Bytes of the gathered result.
    pub gathered_bytes: u64,
    pub broadcasts: u64,
    pub broadcast_bytes: u64,
    /// Exchanges of a few bytes that are not tensors: configurations, counts, whether all are
    /// ready.
    pub messages: u64,
}

impl Add for Traffic {
    type Output = Traffic;

    fn add(self, other: Traffic) -> Traffic {
        Traffic {
            sums: self.sums + other.sums,
            summed_bytes: self.summed_bytes + other.summed_bytes,
            gathers: self.gathers + other.gathers,
            gathered_bytes: self.gathered_bytes + other.gathered_bytes,
            broadcasts: self.broadcasts + other.broadcasts,
            broadcast_bytes: self.broadcast_bytes + other.broadcast_bytes,
            messages: self.messages + other.messages,
        }
    }
}

impl Mul<u64> for Traffic {
    type Output = Traffic;

    fn mul(self, times: u64) -> Traffic {
        Traffic {
            sums: self.sums * times,
            summed_bytes: self.summed_bytes * times,
            gathers: self.gathers * times,
            gathered_bytes: self.gathered_bytes * times,
            broadcasts: self.broadcasts * times,
            broadcast_bytes: self.broadcast_bytes * times,
            messages: self.messages * times,
        }
    }
}

impl Display for Traffic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic { sums, summed_bytes, gathers, gathered_bytes, broadcasts, broadcast_bytes, messages } = self;
        write!(
            out,
            "{summed_bytes} bytes in {sums} sums, {gathered_bytes} bytes in {gathers} gatherings, {broadcast_bytes} bytes in {broadcasts} \
             broadcasts, {messages} messages"
        )
    }
}

/// A handle of the processes of a run.
pub type Group = Arc<dyn Communicator + Sync>;

/// One process.
pub fn alone() -> Group {
    Arc::new(Alone)
}

impl Communicator for Alone {
    fn sum(&self, _tensor: &mut Tensor) {}

    fn gather(&self, own: &Tensor, _counts: &[i64]) -> Tensor {
        own.shallow_clone()
    }

    fn broadcast(&self, _tensor: &mut Tensor) {}

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

/// The sum of a few numbers over all processes.
pub fn sum_numbers(group: &Group, numbers: &[f64]) -> Vec<f64> {
    let mut tensor = Tensor::from_slice(numbers);
    group.sum(&mut tensor);
    Vec::try_from(&tensor).expect("a tensor of float64 is a list of numbers")
}

/// Threads that read and decode pictures in this process; without effect once some do.
pub fn set_loader_threads(threads: usize) {
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// Whether it is true on any process.
pub fn any(group: &Group, own: bool) -> bool {
    sum_numbers(group, &[f64::from(u8::from(own))])[0] > 0.0
}

/// Sends the bytes of process 0 to all processes.
pub fn broadcast_bytes(group: &Group, own: &[u8]) -> Vec<u8> {
    let given: &[u8] = if group.leads() { own } else { &[] };
    group.gather_bytes(given).swap_remove(0)
}
