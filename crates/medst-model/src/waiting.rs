//! How libtorch's threads wait for each other.

use std::sync::{Once, mpsc};
use std::{env, thread};

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
/// beside two busy ones a small model's training took two to three times as long (docs/log.md). libgomp reads its
/// variables when it is loaded, which is too late for a program that links to it, but it also stops
/// spinning once it has more threads than there are processors (its manual, `GOMP_SPINCOUNT`). So
/// this starts that many, which then sleep.
pub fn sleep_instead_of_spinning() {
    if DECIDED.iter().all(|name| env::var_os(name).is_none()) {
        start();
    }
}

fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let Some(threads) = processors().map(|all| all + 1) else { return };
        let all = tch::get_num_threads();
        let (ready, wait) = mpsc::channel();
        let started = thread::Builder::new().name(NAME.into()).spawn(move || {
            tch::set_num_threads(threads);
            let _ = Tensor::ones([GRAIN * 2 * i64::from(threads)], (Kind::Uint8, Device::Cpu));
            // Threads that libtorch sees for the first time later get this number.
            tch::set_num_threads(all);
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

/// Number of processors that libgomp sees; `None` without libgomp.
fn processors() -> Option<i32> {
    // SAFETY: a look-up of a name that ends in a zero.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"omp_get_num_procs".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: this is the function's type in every implementation of OpenMP.
    let count: extern "C" fn() -> i32 = unsafe { std::mem::transmute(symbol) };
    Some(count())
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
        start();
        start();
        assert_eq!(idle() as i32, 1 + processors().expect("libtorch brings libgomp along"));
        assert_eq!(tch::get_num_threads(), computing);
        assert_eq!(thread::spawn(tch::get_num_threads).join().unwrap(), computing);
    }
}
