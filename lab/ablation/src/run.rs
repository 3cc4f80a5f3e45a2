//! Runs the units that have no record yet, several at once. Whatever ends it, finished units are on
//! the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::record::{self, Record};
use crate::study::Study;
use crate::unit::{self, How, Unit};
use crate::{base, cohort};

/// Units without a record, in order.
fn missing(study: &Study, units: &[Unit], retry: bool) -> Result<Vec<Unit>> {
    let mut known: HashMap<&str, Vec<Record>> = HashMap::new();
    let mut left = Vec::new();
    for unit in units {
        if !known.contains_key(unit.arm.as_str()) {
            known.insert(&unit.arm, record::read(&study.results, &unit.arm)?);
        }
        let fingerprint = study.fingerprint(unit)?;
        let found = record::find(&known[unit.arm.as_str()], unit, &fingerprint);
        if found.is_none_or(|record| retry && record.failed.is_some()) {
            left.push(unit.clone());
        }
    }
    Ok(left)
}

/// The number of units whose record has other base weights. Fingerprints cover only configurations
/// and do not show this.
fn strangers(study: &Study, units: &[Unit], checksum: &str) -> Result<usize> {
    let mut count = 0;
    for unit in units {
        let known = record::read(&study.results, &unit.arm)?;
        let found = record::find(&known, unit, &study.fingerprint(unit)?);
        count += usize::from(found.is_some_and(|record| record.base.as_deref() != Some(checksum)));
    }
    Ok(count)
}

/// Runs what is missing.
///
/// * `minutes`: no unit begins later than this after the start.
///
/// # Errors
/// The first that is not a run's own failure; other units that are under way are finished and
/// recorded before.
pub fn run(
    study: &Study,
    units: Vec<Unit>,
    how: &How,
    workers: usize,
    minutes: Option<f64>,
    retry: bool,
) -> Result<()> {
    ensure!(how.medst.exists(), "{}: medst command not found; run `make build`", how.medst.display());
    let (start, total) = (Instant::now(), units.len());
    let left = missing(study, &units, retry)?;
    say!("{} of {total} units are done", total - left.len());
    if left.is_empty() {
        return Ok(());
    }
    let deadline = minutes.map(|minutes| start + Duration::from_secs_f64(60.0 * minutes));
    let base = base::prepare(study, how, workers * how.threads, deadline)?;
    if base.is_none() && study.scale.base.is_some() {
        say!("out of time before the first unit; {} units are left", left.len());
        return Ok(());
    }
    if let Some(base) = &base {
        let others = strangers(study, &units, &base.checksum)?;
        if others > 0 {
            say!(
                "{others} records are of another base than {}: they count, and are not compared with runs of this one",
                base.checksum
            );
        }
    }
    let tests = cohort::tests(study, &How { threads: workers * how.threads, ..how.clone() })?;
    let queue = Mutex::new(VecDeque::from(left));
    // The first worker that needs a seed's cohort makes it, while the others wait.
    let cohorts: HashMap<u64, Mutex<()>> = study.scale.seeds.iter().map(|&seed| (seed, Mutex::new(()))).collect();
    let records = Mutex::new(());
    let late = || deadline.is_some_and(|deadline| Instant::now() > deadline);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let take = || {
        let failed = failure.lock().is_ok_and(|failure| failure.is_some());
        if failed || late() { None } else { queue.lock().ok()?.pop_front() }
    };
    let work = |unit: &Unit| -> Result<()> {
        let corpus = {
            let _first = cohorts[&unit.seed].lock();
            cohort::training(study, unit, how)?
        };
        let record = unit::run(study, unit, &corpus, &tests, base.as_ref(), how)?;
        let [pretrain, evaluate] = record.seconds;
        let end = record.failed.as_ref().map_or(String::new(), |why| format!("; FAILED: {why}"));
        let _alone = records.lock();
        record::write(&study.results, &unit.arm, record)?;
        let minute = start.elapsed().as_secs_f64() / 60.0;
        say!("{minute:6.1} min  {:<28} seed {}  {pretrain:.0} + {evaluate:.0} s{end}", unit.arm, unit.seed);
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                while let Some(unit) = take() {
                    if let Err(error) = work(&unit) {
                        let error = error.context(format!("{}, seed {}", unit.arm, unit.seed));
                        if let Ok(mut failure) = failure.lock() {
                            failure.get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().ok().flatten() {
        return Err(error);
    }
    let left = queue.into_inner().map_or(0, |queue| queue.len());
    say!("{left} units are left");
    Ok(())
}

/// Prints what is done, arm by arm.
pub fn plan(study: &Study, units: &[Unit]) -> Result<()> {
    let left = missing(study, units, false)?;
    let mut arms: Vec<&str> = Vec::new();
    for unit in units {
        if !arms.contains(&unit.arm.as_str()) {
            arms.push(&unit.arm);
        }
    }
    for arm in arms {
        let of = |units: &[Unit]| units.iter().filter(|unit| unit.arm == arm).count();
        say!("{arm:<28} {:>3} of {:>3} done", of(units) - of(&left), of(units));
    }
    say!("{} of {} units are left", left.len(), units.len());
    if units.is_empty() {
        bail!("nothing fits --arms and --seeds");
    }
    Ok(())
}
