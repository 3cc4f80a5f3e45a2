//! Several processes started by a launcher (`mpirun`, `srun`): their ranks, threads, devices and
//! messages.

use std::env;
use std::sync::OnceLock;

use anyhow::Result;
use medst_model::Error;
use medst_model::distributed::{self, Group};
use tch::Device;

/// Variables with the number of processes and the rank, as set by Open MPI, PMIx and Hydra (MPICH,
/// Intel MPI), and SLURM.
const COUNTS: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
const NUMBERS: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"];

/// `(rank, size)` of this process, once it has joined the others.
static PLACE: OnceLock<(usize, usize)> = OnceLock::new();

/// Name of this process for messages; `None` if it is the only one.
pub fn process_name() -> Option<String> {
    PLACE.get().filter(|(_, size)| *size > 1).map(|(rank, size)| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("process {rank} of {size} on {}", host.trim())
    })
}

/// The number of processes that a launcher started, and the rank of this one.
fn world_from_environment() -> (usize, usize) {
    let of = |name: &str| env::var(name).ok()?.parse::<usize>().ok();
    let (count, number) = COUNTS
        .iter()
        .zip(NUMBERS)
        .filter_map(|(count, number)| Some((of(count)?, of(number).unwrap_or(0))))
        .max()
        .unwrap_or((1, 0));
    (count, number)
}

/// Whether this process was started alone.
pub fn is_alone() -> bool {
    world_from_environment().0 == 1
}

/// Whether this is one of several processes but not process 0.
pub fn follows() -> bool {
    let (launched, number) = world_from_environment();
    launched > 1 && number > 0
}

/// Whether a single-process command may run in this process. If a launcher started several, all
/// would do the same work and write the same files, so process 0 fails and the others end silently.
///
/// # Errors
/// On process 0, if there are several.
pub fn check_alone() -> Result<bool> {
    match world_from_environment() {
        (1, _) => Ok(true),
        (launched, 0) => {
            let message = format!(
                "{launched} processes were started, but this command runs in one; only `medst pretrain`, `medst \
                 finetune` and `medst prepare` can use several. To start independent jobs, unset {}",
                COUNTS.join(", ")
            );
            Err(Error::Input(message).into())
        }
        _ => Ok(false),
    }
}

/// Joins the other processes of the job, if there are several; `None` if they cannot be joined and
/// process 0 reports it.
///
/// # Errors
/// Several processes of a program without MPI, which would write the same files.
pub fn join() -> Result<Option<Group>> {
    if cfg!(not(feature = "mpi")) && follows() {
        return Ok(None);
    }
    let group = group(world_from_environment().0)?;
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
        "{launched} processes were started, but this medst was built without MPI and cannot connect them; build it \
         with `cargo build --release -p medst-cli --features mpi`, or start one process"
    );
    Err(Error::Input(message).into())
}

/// Divides the cores of a machine among its processes, unless the environment sets the number of
/// threads.
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

/// The GPU of this process, by its rank on the machine, and the group through which tensors are
/// exchanged.
///
/// # Errors
/// There are more processes than GPUs on a machine, or NCCL cannot be loaded (feature `nccl`).
pub fn place_on(device: Device, group: Group) -> Result<(Device, Group)> {
    let (number, here) = group.local();
    let Device::Cuda(_) = device else { return Ok((device, group)) };
    let there = tch::Cuda::device_count().max(0) as usize;
    if here > there {
        let message =
            format!("{here} processes were started on a machine with {there} GPUs; start at most one process per GPU");
        return Err(Error::Input(message).into());
    }
    Ok((Device::Cuda(number), between_gpus(group, number)?))
}

/// The same group, exchanging tensors directly between GPUs.
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

/// Without the feature `nccl`, tensors are exchanged through host memory and MPI.
#[cfg(not(feature = "nccl"))]
fn between_gpus(group: Group, _number: usize) -> Result<Group> {
    Ok(group)
}

/// Runs a training that several processes share; `None` on all processes but process 0, which has
/// the result.
///
/// # Errors
/// Those of [`join`], [`place_on`] and the training.
pub fn together<S>(
    device: Device,
    train: impl FnOnce(Device, &Group) -> medst_model::Result<Option<S>>,
) -> Result<Option<S>> {
    let Some(group) = join()? else { return Ok(None) };
    let (device, group) = place_on(device, group)?;
    let result = train(device, &group);
    if result.is_err() {
        abandon(group);
    }
    Ok(result?)
}

/// Forgets a group after an error. Dropping it would deadlock, because the other processes wait for
/// this one;
/// [`end_all`] ends them.
pub fn abandon(group: Group) {
    std::mem::forget(group);
}

/// Ends the other processes after an error in this one, for which they would wait.
pub fn end_all(code: u8) {
    if process_name().is_some() {
        #[cfg(feature = "mpi")]
        distributed::mpi::abort(i32::from(code));
        #[cfg(not(feature = "mpi"))]
        let _ = code;
    }
}
