//! NCCL: collectives between GPUs. MPI is still used for launch, rendezvous and tensors in host
//! memory.
//!
//! **Not run on a GPU so far.** What is tested: that it compiles, the message for a missing
//! library, and which calls are made in which order (against libraries that only write them down).
//!
//! Which stream: libtorch computes on its default stream, and the collectives that a step waits for
//! ([`Nccl::sum`], [`Nccl::gather`], [`Nccl::broadcast`]) run on the same stream, in order with its
//! kernels, so that the host does not wait. Gradients ([`Nccl::sum_overlapped`]) go through a
//! separate stream in parallel with the backward pass: it starts after the work that was on the
//! default stream, and the calling thread waits until it is done. NCCL needs the same order of
//! calls on all processes; the order is that of calls with MPI: while gradients are being summed
//! the main thread makes no calls.
//!
//! The library is the one that libtorch brings, found at run time as `libnccl.so.2`. (The crate
//! `cudarc` was tried first: 0.19.10 looks for `libnccl.so` and names with CUDA's version, which
//! neither PyTorch's wheels nor Debian's `libnccl2` have; and seventeen functions are few.)

mod library;

use std::ffi::c_void;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use medst_data::ranks::Ranks;
use medst_data::warning;
use tch::{Device, Kind, Tensor};

use self::library::{Communication, Cuda, DEFAULT_STREAM, Handle, NOT_READY, Number, UniqueId};
use super::{Communicator, Group, Traffic, broadcast_bytes};
use crate::Result;
use crate::device::send_rows;

/// A sum of gradients that takes longer means that a process is lost.
const PATIENCE: Duration = Duration::from_secs(1800);

/// All processes of the job, each with a GPU.
pub struct Nccl {
    /// Handles tensors in host memory.
    mpi: Group,
    lane: Mutex<Lane>,
    counters: [AtomicU64; 6],
}

impl fmt::Debug for Nccl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NCCL, process {} of {}", self.rank(), self.size())
    }
}

impl Nccl {
    /// Joins the processes of a job that have met already.
    ///
    /// * `device`: the number of this process' GPU on its machine.
    ///
    /// # Errors
    /// Libraries that are missing or too old; NCCL's error if the GPUs do not find each other.
    pub fn join(mpi: Group, device: usize) -> Result<Nccl> {
        let (cuda, nccl) = (Cuda::load()?, Communication::load()?);
        let id = if mpi.leads() { nccl.unique_id()?.to_vec() } else { Vec::new() };
        let id = broadcast_bytes(&mpi, &id);
        let lane = Lane::join(cuda, nccl, UniqueId::from_bytes(&id)?, mpi.rank(), mpi.size(), device)?;
        Ok(Nccl { mpi, lane: Mutex::new(lane), counters: Default::default() })
    }

    /// Uses the lane, one thread at a time; what fails ends the job.
    fn call<T>(&self, [times, bytes]: [usize; 2], length: usize, call: impl FnOnce(&Lane) -> Result<T>) -> T {
        let lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        let result = lane.enter().and_then(|()| call(&lane));
        self.counters[times].fetch_add(1, Ordering::Relaxed);
        self.counters[bytes].fetch_add(length as u64, Ordering::Relaxed);
        result.unwrap_or_else(|error| {
            warning::warn(&format!(
                "process {} of {}: {error}; continue from the last checkpoint with --resume",
                self.rank(),
                self.size()
            ));
            super::mpi::abort(1)
        })
    }
}

/// An NCCL communicator, and a stream separate from the default one.
struct Lane {
    cuda: Cuda,
    nccl: Communication,
    context: Handle,
    stream: Handle,
    event: Handle,
    communicator: Handle,
}

// SAFETY: handles identify objects of the libraries and are valid in any thread; `Nccl`'s mutex
// lets one thread use them at a time.
unsafe impl Send for Lane {}

impl Lane {
    fn join(cuda: Cuda, nccl: Communication, id: UniqueId, rank: usize, size: usize, device: usize) -> Result<Lane> {
        let context = cuda.context(device)?;
        cuda.enter(context)?;
        let (stream, event) = (cuda.stream()?, cuda.event()?);
        let communicator = nccl.join(id, rank, size)?;
        Ok(Lane { cuda, nccl, context, stream, event, communicator })
    }

    /// Makes the GPU current for the calling thread.
    fn enter(&self) -> Result<()> {
        self.cuda.enter(self.context)
    }

    /// Sums in place, in the order of the default stream.
    fn sum(&self, data: *mut c_void, count: usize, number: Number) -> Result<()> {
        self.nccl.sum(data, count, number, self.communicator, DEFAULT_STREAM)
    }

    /// Sums in place on the separate stream, after the work that is now on the default stream;
    /// returns when the sum is done.
    fn sum_overlapped(&self, data: *mut c_void, count: usize, number: Number) -> Result<()> {
        self.cuda.follow(self.stream, DEFAULT_STREAM, self.event)?;
        self.nccl.sum(data, count, number, self.communicator, self.stream)?;
        self.cuda.record(self.event, self.stream)?;
        let begun = Instant::now();
        loop {
            match self.cuda.query(self.event)? {
                NOT_READY => {}
                _ => return Ok(()),
            }
            self.nccl.check(self.communicator)?;
            if begun.elapsed() > PATIENCE {
                let message = format!(
                    "a sum of gradients has taken more than {} s; another process has probably failed",
                    PATIENCE.as_secs()
                );
                return Err(crate::Error::Distributed(message));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// The type of a tensor's numbers, where NCCL sums it.
fn number(tensor: &Tensor) -> Number {
    match tensor.kind() {
        Kind::Float => Number::Float32,
        Kind::Double => Number::Float64,
        Kind::Int64 => Number::Int64,
        other => panic!("cannot sum tensors of type {other:?} over processes (only float32, float64 and int64)"),
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// Where, among rows of which each process has the same number, those are that exist; `None` where
/// all do.
fn places(counts: &[i64]) -> Option<Vec<i64>> {
    let most = counts.iter().copied().max().unwrap_or(0);
    let uneven = counts.iter().any(|&count| count != most);
    uneven
        .then(|| (0i64..).zip(counts).flat_map(|(rank, &count)| (0..count).map(move |row| rank * most + row)).collect())
}

impl Ranks for Nccl {
    fn rank(&self) -> usize {
        self.mpi.rank()
    }

    fn size(&self) -> usize {
        self.mpi.size()
    }

    fn gather_bytes(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.mpi.gather_bytes(own)
    }
}

impl Communicator for Nccl {
    fn sum(&self, tensor: &mut Tensor) {
        if tensor.device() == Device::Cpu {
            return self.mpi.sum(tensor);
        }
        assert!(tensor.is_contiguous(), "a contiguous tensor");
        self.call([0, 1], bytes(tensor), |lane| lane.sum(tensor.data_ptr(), tensor.numel(), number(tensor)));
    }

    fn sum_overlapped(&self, tensor: &mut Tensor) {
        if tensor.device() == Device::Cpu {
            return self.mpi.sum(tensor);
        }
        assert!(tensor.is_contiguous(), "a contiguous tensor");
        self.call([0, 1], bytes(tensor), |lane| lane.sum_overlapped(tensor.data_ptr(), tensor.numel(), number(tensor)));
    }

    /// Every process passes the largest number of rows of any process; the padding is removed
    /// afterwards.
    fn gather(&self, own: &Tensor, counts: &[i64]) -> Tensor {
        if own.device() == Device::Cpu {
            return self.mpi.gather(own, counts);
        }
        let _guard = tch::no_grad_guard();
        let most = counts.iter().copied().max().unwrap_or(0);
        let (mut padded, mut all) = (own.size(), own.size());
        (padded[0], all[0]) = (most, most * counts.len() as i64);
        let given = Tensor::zeros(&padded, (own.kind(), own.device()));
        given.narrow(0, 0, own.size()[0]).copy_(own);
        let gathered = Tensor::empty(&all, (own.kind(), own.device()));
        let row = if most > 0 { bytes(&given) / most as usize } else { 0 };
        self.call([2, 3], row * counts.iter().sum::<i64>() as usize, |lane| match bytes(&given) {
            0 => Ok(()),
            length => {
                lane.nccl.gather(given.data_ptr(), gathered.data_ptr(), length, lane.communicator, DEFAULT_STREAM)
            }
        });
        match places(counts) {
            None => gathered,
            Some(rows) => gathered.index_select(0, &send_rows(&rows, own.device())),
        }
    }

    fn broadcast(&self, tensor: &mut Tensor) {
        if tensor.device() == Device::Cpu {
            return self.mpi.broadcast(tensor);
        }
        assert!(tensor.is_contiguous(), "a contiguous tensor");
        self.call([4, 5], bytes(tensor), |lane| {
            lane.nccl.broadcast(tensor.data_ptr(), bytes(tensor), lane.communicator, DEFAULT_STREAM)
        });
    }

    fn traffic(&self) -> Traffic {
        let [sums, summed_bytes, gathers, gathered_bytes, broadcasts, broadcast_bytes] =
            self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let own = Traffic { sums, summed_bytes, gathers, gathered_bytes, broadcasts, broadcast_bytes, messages: 0 };
        own + self.mpi.traffic()
    }

    fn local(&self) -> (usize, usize) {
        self.mpi.local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn padding_of_uneven_shares_is_left_out() {
        assert_eq!(places(&[2, 2, 2]), None);
        assert_eq!(places(&[]), None);
        assert_eq!(places(&[1, 3, 0]), Some(vec![0, 3, 4, 5]));
    }

    /// Compiles libraries that record the calls to them and perform them for one process whose
    /// device is host memory.
    fn pretended() -> (tempfile::TempDir, Cuda, Communication) {
        let folder = tempfile::tempdir().unwrap();
        let (source, path) = (folder.path().join("pretended.c"), folder.path().join("libpretended.so"));
        std::fs::write(&source, include_str!("pretended.c")).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&path, &source]).status();
        assert!(built.is_ok_and(|status| status.success()), "a C compiler builds medst, and this test");
        let name = path.to_str().unwrap();
        let (cuda, nccl) = (Cuda::open(&[name]).unwrap(), Communication::open(&[name]).unwrap());
        (folder, cuda, nccl)
    }

    #[test]
    fn gradients_follow_the_default_stream_on_one_of_their_own_and_are_waited_for() {
        let (_folder, cuda, nccl) = pretended();
        let written = nccl.symbol::<unsafe extern "C" fn() -> *const std::ffi::c_char>(c"pretended_calls").unwrap();
        let id = UniqueId::from_bytes(&nccl.unique_id().unwrap()).unwrap();
        let lane = Lane::join(cuda, nccl, id, 1, 3, 2).unwrap();
        let mut values = [1f32, 2.0, 3.0];
        lane.enter().unwrap();
        lane.sum_overlapped(values.as_mut_ptr().cast(), values.len(), Number::Float32).unwrap();
        lane.sum(values.as_mut_ptr().cast(), values.len(), Number::Float32).unwrap();
        // Three processes that all have the same.
        assert_eq!(values, [9.0, 18.0, 27.0]);
        let mut all = [0f32; 9];
        lane.nccl
            .gather(values.as_mut_ptr().cast(), all.as_mut_ptr().cast(), 12, lane.communicator, DEFAULT_STREAM)
            .unwrap();
        assert_eq!(all[3..6], values);
        lane.nccl.broadcast(values.as_mut_ptr().cast(), 12, lane.communicator, DEFAULT_STREAM).unwrap();
        // SAFETY: a C string of the library, which lives on.
        let calls = unsafe { std::ffi::CStr::from_ptr(written()) }.to_str().unwrap();
        let expected = [
            "id",
            "device 2",
            "enter",
            "stream 1",
            "event",
            "join 1 of 3",
            "enter",
            "record default",
            "wait separate",
            "sum 3 of type 7 separate",
            "record separate",
            "query",
            "query",
            "sum 3 of type 7 default",
            "gather 12 of type 1 default",
            "broadcast 12 of type 1 from 0 default",
        ];
        assert_eq!(calls.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_error_of_the_library_is_told_in_its_words() {
        let (_folder, cuda, nccl) = pretended();
        let id = UniqueId::from_bytes(&nccl.unique_id().unwrap()).unwrap();
        let said = Lane::join(cuda, nccl, id, 0, 99, 0).err().unwrap().to_string();
        assert!(said.contains("ncclCommInitRank") && said.contains("pretended error 3"), "{said}");
    }

    #[test]
    fn a_missing_library_is_named_with_what_to_do() {
        let said = Communication::open(&["/nowhere/libnccl.so.2"]).err().unwrap().to_string();
        assert!(said.contains("/nowhere/libnccl.so.2") && said.contains("MEDST_NCCL"), "{said}");
        let said = Cuda::open(&["/nowhere/libcuda.so.1"]).err().unwrap().to_string();
        assert!(said.contains("/nowhere/libcuda.so.1") && said.contains("driver"), "{said}");
        // A library that is something else.
        let said = Communication::open(&["libc.so.6"]).err().unwrap().to_string();
        assert!(said.contains("ncclGetUniqueId"), "{said}");
    }
}
