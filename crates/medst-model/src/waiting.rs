//! How libtorch's threads wait for each other.

use std::ffi::{CStr, c_void};
use std::sync::{Once, mpsc};
use std::{env, mem, thread};

use tch::{Device, Kind, Tensor};

/// Variables by which users decide themselves.
const DECIDED: [&str; 2] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"];

/// Name of the threads that only sleep.
const NAME: &str = "medst-idle";

/// Elements that libtorch gives a thread at least.
const GRAIN: i64 = 32_768;

/// Has libtorch's threads on the CPU sleep while they wait for each other, for the whole process. A
/// second call does nothing, nor does one where `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` is set.
///
/// The threads of libgomp (GNU OpenMP) spin for milliseconds after every operation. That gains
/// nothing measurable, and takes cores from the threads that read pictures and from other programs:
/// a small model's training took 1.3 to 3 times as long where two of them were busy
/// (docs/log.md). libgomp reads its variables when it is loaded, which is too late for a program
/// that links to it, but it also stops spinning once it has more threads than there are processors
/// (its manual, `GOMP_SPINCOUNT`). So this starts that many, which then sleep.
pub fn sleep_instead_of_spinning() {
    if DECIDED.iter().all(|name| env::var_os(name).is_none()) {
        start();
    }
}

fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let Some(OpenMp { processors, share }) = OpenMp::of_libtorch() else { return };
        let (ready, wait) = mpsc::channel();
        let started = thread::Builder::new().name(NAME.into()).spawn(move || {
            // libtorch gives a thread its number when the thread first asks; then this one gets its
            // own.
            tch::get_num_threads();
            let threads = processors() + 1;
            share(threads);
            let _ = Tensor::ones([GRAIN * 2 * i64::from(threads)], (Kind::Uint8, Device::Cpu));
            let _ = ready.send(());
            // Its OpenMP threads live as long as it does.
            loop {
                thread::park();
            }
        });
        if started.is_ok() {
            let _ = wait.recv();
        }
    });
}

/// Functions of the OpenMP that libtorch brings along.
struct OpenMp {
    /// `omp_get_num_procs`
    processors: extern "C" fn() -> i32,
    /// `omp_set_num_threads`, for the calling thread
    share: extern "C" fn(i32),
}

impl OpenMp {
    fn of_libtorch() -> Option<OpenMp> {
        // SAFETY: look-ups among what is loaded.
        let find = |name: &CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let (processors, share) = (find(c"omp_get_num_procs"), find(c"omp_set_num_threads"));
        if processors.is_null() || share.is_null() {
            return None;
        }
        // SAFETY: the types that OpenMP gives the two functions.
        Some(unsafe {
            OpenMp {
                processors: mem::transmute::<*mut c_void, extern "C" fn() -> i32>(processors),
                share: mem::transmute::<*mut c_void, extern "C" fn(i32)>(share),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads of this process that sleep on purpose: OpenMP's have the name of who started them.
    fn idle() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == NAME).count()
    }

    #[test]
    fn more_threads_than_processors_are_idle_and_the_number_that_computes_stays() {
        let computing = tch::get_num_threads();
        // Another pool of libtorch's has its threads from here on, not from who asks for a number
        // next.
        tch::set_num_threads(computing);
        start();
        start();
        let openmp = OpenMp::of_libtorch().expect("libtorch brings libgomp along");
        assert_eq!(idle() as i32, 1 + (openmp.processors)());
        assert_eq!(tch::get_num_threads(), computing);
        assert_eq!(thread::spawn(tch::get_num_threads).join().unwrap(), computing);
    }
}
