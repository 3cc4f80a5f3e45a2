//! MPI: how processes are started (`mpirun`, `srun`), meet, and pass tensors through memory.
//!
//! Tensors on a GPU are copied to memory and back; the feature `nccl` spares them that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::mpi::Threading;
use ::mpi::collective::SystemOperation;
use ::mpi::datatype::{Equivalence, PartitionMut};
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator as _, CommunicatorCollectives as _, Root as _};
use medst_data::ranks::Ranks;
use medst_data::warning;
use tch::{Device, Kind, Tensor};

use super::{Communicator, Traffic};
use crate::{Error, Result};

/// Elements of one call: MPI counts in 32 bits.
const ELEMENTS: usize = 1 << 28;

/// Elements of a sum that go at once: what is sent is copied first, and the copy of a whole bucket
/// would be new memory for each, cleared page by page (docs/scale.md).
const PIECE: usize = 1 << 18;

/// A collective that takes longer has lost a process: the longest wait is for process 0, which
/// alone evaluates tasks and writes checkpoints.
const PATIENCE: Duration = Duration::from_secs(1800);

/// All processes of the job.
#[derive(Debug)]
pub struct Mpi {
    calls: Mutex<Calls>,
    rank: usize,
    size: usize,
    local: (usize, usize),
    counters: [AtomicU64; 7],
    /// The collective that this process is waiting in, and since when.
    waiting: Arc<Mutex<Option<(&'static str, Instant)>>>,
}

/// State of MPI that only one thread at a time may use.
struct Calls {
    world: SimpleCommunicator,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("MPI_COMM_WORLD")
    }
}

// SAFETY: the handles inside identify MPI's objects. MPI was initialised to allow calls from any
// thread as long as they do not overlap, and the mutex around this value prevents overlap.
unsafe impl Send for Calls {}

impl Mpi {
    /// Joins the job that a launcher started.
    ///
    /// # Errors
    /// An MPI that allows calls from one thread only.
    pub fn join() -> Result<Mpi> {
        let fail = |message: &str| Error::Distributed(message.into());
        let (universe, threading) = ::mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| fail("MPI has already been initialised in this process"))?;
        if threading < Threading::Serialized {
            return Err(fail("this build of MPI does not support MPI_THREAD_SERIALIZED; use one that does"));
        }
        let world = universe.world();
        let here = world.split_shared(world.rank());
        let mpi = Mpi {
            rank: world.rank() as usize,
            size: world.size() as usize,
            local: (here.rank() as usize, here.size() as usize),
            calls: Mutex::new(Calls { world, _universe: universe }),
            counters: Default::default(),
            waiting: Arc::default(),
        };
        mpi.watch();
        Ok(mpi)
    }

    /// Ends the job when a collective does not come back: a launcher that does not notice a lost
    /// process would leave the others waiting for ever.
    fn watch(&self) {
        let (waiting, rank, size) = (Arc::clone(&self.waiting), self.rank, self.size);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(5));
                let now = *waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((what, since)) = now.filter(|(_, since)| since.elapsed() > PATIENCE) {
                    warning::warn(&format!(
                        "process {rank} of {size} has waited {} s for the others in {what}; another process \
                         has probably failed. Continue from the last checkpoint with --resume",
                        since.elapsed().as_secs()
                    ));
                    abort(1);
                }
            }
        });
    }

    /// Calls MPI, one thread at a time.
    fn call<T>(
        &self,
        what: &'static str,
        counters: [usize; 2],
        bytes: usize,
        call: impl FnOnce(&SimpleCommunicator) -> T,
    ) -> T {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let set = |state| *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = state;
        set(Some((what, Instant::now())));
        let result = call(&calls.world);
        set(None);
        self.counters[counters[0]].fetch_add(1, Ordering::Relaxed);
        self.counters[counters[1]].fetch_add(bytes as u64, Ordering::Relaxed);
        result
    }

    fn sum_of<T: Equivalence + Copy>(&self, tensor: &Tensor) {
        // SAFETY: the caller has a handle to the tensor, whose elements are of this type.
        let values = unsafe { elements::<T>(tensor) };
        self.call("a sum", [0, 1], size_of_val(values), |world| {
            let mut piece = Vec::with_capacity(values.len().min(PIECE));
            for part in values.chunks_mut(PIECE) {
                piece.clear();
                piece.extend_from_slice(part);
                world.all_reduce_into(&piece[..], part, SystemOperation::sum());
            }
        });
    }
}

/// Ends every process of the job.
pub fn abort(code: i32) -> ! {
    // SAFETY: allowed at any time between MPI's start and end, from any thread.
    unsafe { ::mpi::ffi::MPI_Abort(::mpi::ffi::RSMPI_COMM_WORLD, code) };
    std::process::exit(code)
}

impl Drop for Mpi {
    /// A process that panics ends the job: the others wait for it in their next call, and it would
    /// wait for them at MPI's end.
    fn drop(&mut self) {
        if std::thread::panicking() {
            abort(101);
        }
    }
}

/// The elements of a contiguous tensor in memory.
///
/// # Safety
/// The elements are of type `T`, and nothing else uses them in the meantime.
#[expect(clippy::mut_from_ref, reason = "a tensor is a handle; its elements are not the handle's")]
unsafe fn elements<T>(tensor: &Tensor) -> &mut [T] {
    assert!(tensor.is_contiguous() && tensor.device() == Device::Cpu, "a contiguous tensor in memory");
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: contiguous, in memory, and of this type, as the caller promises.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

/// The bytes of a contiguous tensor in memory.
#[expect(clippy::mut_from_ref, reason = "a tensor is a handle; its elements are not the handle's")]
fn bytes(tensor: &Tensor) -> &mut [u8] {
    // SAFETY: any element is bytes.
    let elements = unsafe { elements::<u8>(tensor) };
    if elements.is_empty() {
        return elements;
    }
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    // SAFETY: the tensor has that many bytes.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr(), length) }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather_bytes(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.call("a message", [6, 3], 0, |world| {
            let mut lengths = vec![0u64; self.size];
            world.all_gather_into(&(own.len() as u64), &mut lengths[..]);
            let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
            let mut all = gather_unevenly(world, own, &lengths);
            lengths.iter().map(|&length| all.drain(..length).collect()).collect()
        })
    }
}

/// The bytes of all processes, in rank order.
fn gather_unevenly(world: &SimpleCommunicator, own: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut all = vec![0; lengths.iter().sum()];
    if all.is_empty() {
        return all;
    }
    if i32::try_from(all.len()).is_ok() {
        let counts: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
        let displacements = places(&counts);
        world.all_gather_varcount_into(own, &mut PartitionMut::new(&mut all[..], counts, displacements));
        return all;
    }
    // More bytes than MPI can count: each process broadcasts its bytes in pieces.
    let mut rest = &mut all[..];
    for (rank, &length) in lengths.iter().enumerate() {
        let (part, behind) = rest.split_at_mut(length);
        if rank == world.rank() as usize {
            part.copy_from_slice(own);
        }
        part.chunks_mut(ELEMENTS).for_each(|piece| world.process_at_rank(rank as i32).broadcast_into(piece));
        rest = behind;
    }
    all
}

/// The position at which each part begins.
fn places(counts: &[i32]) -> Vec<i32> {
    counts.iter().scan(0, |next, &count| Some(std::mem::replace(next, *next + count))).collect()
}

impl Communicator for Mpi {
    fn sum(&self, tensor: &mut Tensor) {
        if tensor.device() != Device::Cpu {
            let mut here = tensor.to_device(Device::Cpu);
            self.sum(&mut here);
            return tch::no_grad(|| tensor.copy_(&here));
        }
        match tensor.kind() {
            Kind::Float => self.sum_of::<f32>(tensor),
            Kind::Double => self.sum_of::<f64>(tensor),
            Kind::Int64 => self.sum_of::<i64>(tensor),
            other => panic!("cannot sum tensors of type {other:?} over processes (only float32, float64 and int64)"),
        }
    }

    fn gather(&self, own: &Tensor, counts: &[i64]) -> Tensor {
        let here = own.to_device(Device::Cpu);
        let mut shape = own.size();
        let row = shape[1..].iter().product::<i64>() as usize * own.kind().elt_size_in_bytes();
        let lengths: Vec<usize> = counts.iter().map(|&count| count as usize * row).collect();
        shape[0] = counts.iter().sum();
        let length = lengths.iter().sum();
        let all = self.call("a gathering", [2, 3], length, |world| gather_unevenly(world, bytes(&here), &lengths));
        Tensor::from_data_size(&all, &shape, own.kind()).to_device(own.device())
    }

    fn broadcast(&self, tensor: &mut Tensor) {
        if tensor.device() != Device::Cpu {
            let mut here = tensor.to_device(Device::Cpu);
            self.broadcast(&mut here);
            return tch::no_grad(|| tensor.copy_(&here));
        }
        let bytes = bytes(tensor);
        self.call("a broadcast", [4, 5], bytes.len(), |world| {
            bytes.chunks_mut(ELEMENTS).for_each(|part| world.process_at_rank(0).broadcast_into(part));
        });
    }

    fn traffic(&self) -> Traffic {
        let [sums, summed_bytes, gathers, gathered_bytes, broadcasts, broadcast_bytes, messages] =
            self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Traffic { sums, summed_bytes, gathers, gathered_bytes, broadcasts, broadcast_bytes, messages }
    }

    fn local(&self) -> (usize, usize) {
        self.local
    }
}
