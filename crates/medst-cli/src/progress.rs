//! Progress on a terminal (a bar with rate and remaining time) or in a log (a line every few
//! seconds), and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use medst_data::printable;
use medst_data::progress::Progress;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// Time between lines of progress without a terminal.
const QUIET: Duration = Duration::from_secs(10);

static STOP: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C and SIGTERM (sent by schedulers) request a clean stop; a second one exits at once.
/// SIGUSR1 also requests a clean stop, however often it is received: `mpirun` forwards it to all
/// processes, whereas on SIGTERM it kills them. SIGHUP keeps its default action, so that a job
/// under `nohup` outlives its terminal.
///
/// # Errors
/// When the handlers cannot be set.
pub fn catch_interrupt() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    std::thread::spawn(move || {
        for signal in &mut signals {
            if STOP.swap(true, Ordering::SeqCst) {
                if signal == SIGUSR1 {
                    continue;
                }
                std::process::exit(130);
            }
            match crate::launch::process_name() {
                None => eprintln!("stopping at the next safe point; interrupt again to stop at once"),
                Some(process) => eprintln!(
                    "medst: {process}: received a signal to stop, from a scheduler or because another process was \
                     lost; stopping at the next safe point if the other processes still run. Start the job again \
                     (pretrain: with --resume) to continue from there"
                ),
            }
        }
    });
    Ok(())
}

/// How the progress of a long job is shown.
pub enum Reporter {
    Silent,
    Bar(ProgressBar),
    Lines(Mutex<Option<Phase>>, AtomicU64),
}

/// A phase reported in lines.
pub struct Phase {
    what: String,
    status: String,
    total: Option<u64>,
    start: Instant,
    shown: Instant,
}

impl Reporter {
    /// A bar on a terminal, lines otherwise, nothing with `quiet`.
    pub fn new(quiet: bool) -> Reporter {
        if quiet {
            return Reporter::Silent;
        }
        if std::io::stderr().is_terminal() {
            return Reporter::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        }
        Reporter::Lines(Mutex::new(None), AtomicU64::new(0))
    }

    /// Whether `--quiet` was given.
    pub fn is_silent(&self) -> bool {
        matches!(self, Reporter::Silent)
    }
}

/// Shows a warning of the library, whatever is shown of progress.
pub fn warn(line: &str) {
    eprintln!("medst: {}", printable::message(line));
}

impl Progress for Reporter {
    fn begin(&self, what: &str, total: Option<u64>) {
        match self {
            Reporter::Silent => {}
            Reporter::Bar(bar) => {
                let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {per_sec} eta {eta} {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.reset();
                bar.set_prefix(printable::one_line(what).into_owned());
                bar.set_message("");
                if let Some(total) = total {
                    bar.set_length(total);
                }
            }
            Reporter::Lines(phase, done) => {
                done.store(0, Ordering::Relaxed);
                let now = Instant::now();
                let begun = Phase {
                    what: printable::one_line(what).into_owned(),
                    status: String::new(),
                    total,
                    start: now,
                    shown: now,
                };
                if let Ok(mut phase) = phase.lock() {
                    *phase = Some(begun);
                }
            }
        }
    }

    fn advance(&self, count: u64) {
        match self {
            Reporter::Silent => {}
            Reporter::Bar(bar) => bar.inc(count),
            Reporter::Lines(phase, done) => {
                let done = done.fetch_add(count, Ordering::Relaxed) + count;
                if let Ok(mut phase) = phase.lock()
                    && let Some(phase) = phase.as_mut()
                    && phase.shown.elapsed() >= QUIET
                {
                    phase.shown = Instant::now();
                    eprintln!("{}", phase.line(done));
                }
            }
        }
    }

    fn end(&self) {
        match self {
            Reporter::Silent => {}
            Reporter::Bar(bar) => bar.finish_and_clear(),
            Reporter::Lines(phase, done) => {
                if let Ok(mut phase) = phase.lock()
                    && let Some(phase) = phase.take()
                {
                    let seconds = phase.start.elapsed().as_secs_f64();
                    eprintln!("{}: {} done in {seconds:.1} s", phase.what, done.load(Ordering::Relaxed));
                }
            }
        }
    }

    fn status(&self, words: &str) {
        match self {
            Reporter::Silent => {}
            Reporter::Bar(bar) => bar.set_message(printable::one_line(words).into_owned()),
            Reporter::Lines(phase, _) => {
                if let Ok(mut phase) = phase.lock()
                    && let Some(phase) = phase.as_mut()
                {
                    phase.status = format!(", {}", printable::one_line(words));
                }
            }
        }
    }

    fn note(&self, line: &str) {
        let line = printable::message(line);
        match self {
            Reporter::Silent => {}
            Reporter::Bar(bar) => bar.suspend(|| eprintln!("{line}")),
            Reporter::Lines(..) => eprintln!("{line}"),
        }
    }

    fn stop_requested(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

impl Phase {
    fn line(&self, done: u64) -> String {
        let rate = done as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
        match self.total {
            Some(total) => {
                let left = Duration::from_secs_f64(total.saturating_sub(done) as f64 / rate.max(1e-9));
                format!("{}: {done}/{total}, {rate:.1}/s, {} left{}", self.what, HumanDuration(left), self.status)
            }
            None => format!("{}: {done}, {rate:.1}/s{}", self.what, self.status),
        }
    }
}
