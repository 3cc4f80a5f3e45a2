//! Whether this process is one of several that a launcher started (`mpirun`, `srun`), and what that changes: their number among themselves, threads,
//! devices, messages.

use std::env;
use std::sync::OnceLock;

use anyhow::Result;
use medst::Error;
use medst::distributed::{self, Group};
use tch::Device;

/// What launchers tell their processes of how many there are, and of their number: Open MPI, PMIx and Hydra (MPICH, Intel MPI), SLURM.
const COUNTS: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
const NUMBERS: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"];

/// `(number, all)` of this process, once it knows.
static PLACE: OnceLock<(usize, usize)> = OnceLock::new();

/// Which of several processes this is, for messages; `None` where it is the only one.
pub fn place() -> Option<String> {
    PLACE.get().filter(|(_, size)| *size > 1).map(|(rank, size)| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("process {rank} of {size} on {}", host.trim())
    })
}

/// How many processes a launcher started, and which of them this is.
fn told() -> (usize, usize) {
    let of = |name: &str| env::var(name).ok()?.parse::<usize>().ok();
    let (count, number) = COUNTS
        .iter()
        .zip(NUMBERS)
        .filter_map(|(count, number)| Some((of(count)?, of(number).unwrap_or(0))))
        .max()
        .unwrap_or((1, 0));
    (count, number)
}

/// Whether this is one of several processes that a launcher started, and not the first.
pub fn follows() -> bool {
    let (launched, number) = told();
    launched > 1 && number > 0
}

/// Whether a command that is made for one process may go on: where a launcher started several, all would do the same work and write the same files, so the
/// first says why not, and the others end.
///
/// # Errors
/// Several processes, on the first of them.
pub fn check_alone() -> Result<bool> {
    match told() {
        (1, _) => Ok(true),
        (launched, 0) => {
            let message = format!(
                "this command runs in one process, and {launched} were started; several can share `medst pretrain` and `medst prepare`. Independent jobs are \
                 started without {}",
                COUNTS.join(", ")
            );
            Err(Error::Config(message).into())
        }
        _ => Ok(false),
    }
}

/// Joins the other processes of the job, where a launcher started several; `None` where they cannot be joined and another process says so.
///
/// # Errors
/// A program without MPI that was started several times, whose processes would write the same files.
pub fn join() -> Result<Option<Group>> {
    if cfg!(not(feature = "mpi")) && follows() {
        return Ok(None);
    }
    let group = group(told().0)?;
    let _ = PLACE.set((group.rank(), group.size()));
    let (_, here) = group.local();
    if here > 1 {
        share_cores(here);
    }
    Ok(Some(group))
}

#[cfg(feature = "mpi")]
fn group(launched: usize) -> Result<Group> {
    if launched == 1 {
        return Ok(distributed::alone());
    }
    Ok(std::sync::Arc::new(distributed::mpi::Mpi::join()?))
}

#[cfg(not(feature = "mpi"))]
fn group(launched: usize) -> Result<Group> {
    if launched == 1 {
        return Ok(distributed::alone());
    }
    let message = format!(
        "{launched} processes were started, but this medst was built without MPI, so they would not know of each other; build it with \
         `cargo build --release -p medst-cli --features mpi`, or start one"
    );
    Err(Error::Config(message).into())
}

/// Processes on one machine share its cores, unless the environment says otherwise.
fn share_cores(processes: usize) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (cores / processes).max(1);
    if env::var_os("OMP_NUM_THREADS").is_none() {
        tch::set_num_threads(threads as i32);
    }
    if env::var_os("RAYON_NUM_THREADS").is_none() {
        distributed::set_loader_threads(threads);
    }
}

/// The device of this process: of several GPUs of a machine, that of its number there; and how tensors go from one to the other.
///
/// # Errors
/// More processes than GPUs on a machine; NCCL that cannot be loaded (feature `nccl`).
pub fn place_on(device: Device, group: Group) -> Result<(Device, Group)> {
    let (number, here) = group.local();
    let Device::Cuda(_) = device else { return Ok((device, group)) };
    let there = tch::Cuda::device_count().max(0) as usize;
    if here > there {
        let message = format!("{here} processes were started on a machine with {there} GPUs; start one for each");
        return Err(Error::Config(message).into());
    }
    Ok((Device::Cuda(number), between_gpus(group, number)?))
}

/// The same processes, passing tensors from GPU to GPU.
#[cfg(feature = "nccl")]
fn between_gpus(group: Group, number: usize) -> Result<Group> {
    if group.size() == 1 {
        return Ok(group);
    }
    match distributed::nccl::Nccl::join(Group::clone(&group), number) {
        Ok(nccl) => Ok(std::sync::Arc::new(nccl)),
        Err(error) => {
            abandon(group);
            Err(error.into())
        }
    }
}

/// Without the feature `nccl` tensors go through memory and MPI.
#[cfg(not(feature = "nccl"))]
fn between_gpus(group: Group, _number: usize) -> Result<Group> {
    Ok(group)
}

/// Lets go of a group after an error. Leaving it would wait for the others, who wait for this process: whoever shows the error ends them ([`end_all`]).
pub fn abandon(group: Group) {
    std::mem::forget(group);
}

/// Ends the other processes too, where one of several has failed: they would wait for it.
pub fn end_all(code: u8) {
    if place().is_some() {
        #[cfg(feature = "mpi")]
        distributed::mpi::abort(i32::from(code));
        #[cfg(not(feature = "mpi"))]
        let _ = code;
    }
}
