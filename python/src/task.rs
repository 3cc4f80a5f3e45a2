//! Long work runs on a separate thread without the interpreter's lock, while the calling thread
//! checks for Ctrl-C and shows progress.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use medst_data::progress::Progress;
use medst_model::Result;
use pyo3::prelude::*;

use crate::errors;

/// The interval between two checks of signals and progress.
const LOOK: Duration = Duration::from_millis(100);

/// Progress of the work; written by it, read by the waiting thread.
#[derive(Default)]
pub struct Watched {
    phase: Mutex<(String, Option<u64>)>,
    done: AtomicU64,
    stop: AtomicBool,
}

impl Progress for Watched {
    fn begin(&self, what: &str, total: Option<u64>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = (what.to_string(), total);
        self.done.store(0, Ordering::Relaxed);
    }

    fn advance(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watched {
    /// # Errors
    /// [`medst_model::Error::Stopped`] once a stop was requested.
    pub fn go_on(&self) -> Result<()> {
        if self.stop_requested() { Err(medst_model::Error::Stopped) } else { Ok(()) }
    }

    /// Calls `show(what, done, total)`.
    fn tell(&self, py: Python<'_>, show: Option<&Py<PyAny>>) -> PyResult<()> {
        let Some(show) = show else { return Ok(()) };
        let (what, total) = self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !what.is_empty() {
            show.call1(py, (what, self.done.load(Ordering::Relaxed), total))?;
        }
        Ok(())
    }
}

/// Does the work and waits for it. After Ctrl-C (or another exception of a signal handler or of
/// `show`) the work is asked to stop, and once it has stopped, the exception is raised.
pub fn run<T: Send>(
    py: Python<'_>,
    show: Option<&Py<PyAny>>,
    work: impl FnOnce(&Watched) -> Result<T> + Send,
) -> PyResult<T> {
    let watched = Watched::default();
    std::thread::scope(|scope| {
        let (sender, mut receiver) = mpsc::channel::<()>();
        let worker = scope.spawn(|| {
            // Dropped at the end, also after a panic: the other side waits for that.
            let _sender = sender;
            work(&watched)
        });
        let mut interrupted: Option<PyErr> = None;
        loop {
            let receiver = &mut receiver;
            let waited = py.detach(move || receiver.recv_timeout(LOOK));
            if waited == Err(RecvTimeoutError::Timeout) {
                if interrupted.is_none()
                    && let Err(error) = py.check_signals().and_then(|()| watched.tell(py, show))
                {
                    watched.stop.store(true, Ordering::Relaxed);
                    interrupted = Some(error);
                }
                continue;
            }
            let result = py.detach(|| worker.join());
            let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            return match (interrupted, result) {
                (Some(error), _) => Err(error),
                (None, Ok(value)) => watched.tell(py, show).map(|()| value),
                (None, Err(error)) => Err(errors::exception(py, error)),
            };
        }
    })
}
