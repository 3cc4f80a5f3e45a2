//! Ablation studies: many pre-training runs that differ in one thing each, judged on cohorts with
//! known truth.
//!
//! | file | what |
//! |---|---|
//! | [`study`] | what a study is: arms, seeds, cohorts, outcomes (TOML) |
//! | [`base`] | the encoders that runs start from |
//! | [`cohort`] | the phantom cohorts of a seed, prepared |
//! | [`mod@unit`] | one arm and seed: pre-train, evaluate, delete the model |
//! | [`record`] | the result of a unit: a line in a small file that is committed |
//! | [`run`] | all units that have no record yet, several at once |
//! | [`statistics`] | differences, intervals, correction |
//! | [`comparison`] | from records to differences |
//! | [`page`] | from differences to `docs/evidence.md` |
//!
//! Everything is done by the `medst` command, as a user would type it; this program links no torch.

/// Prints a line, and ignores a closed standard output: the study must not end because of it.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod base;
mod cohort;
mod comparison;
mod page;
mod record;
mod run;
mod statistics;
mod study;
mod unit;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Runs ablation studies of medst and reports on them.
#[derive(Debug, Parser)]
#[command(name = "medst-ablation", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all units that have no record yet.
    Run(Run),
    /// List which units are complete and which are not.
    Plan(Which),
    /// Write the page with tables.
    Report(Report),
}

/// Which units of which study.
#[derive(Debug, Args)]
struct Which {
    /// The study, such as lab/ablation/study.toml.
    study: PathBuf,
    /// Only these arms.
    #[arg(long, value_delimiter = ',')]
    arms: Vec<String>,
    /// Only these seeds.
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    which: Which,
    /// The medst command.
    #[arg(long, default_value = "target/release/medst")]
    medst: PathBuf,
    /// Folder for cohorts and runs; the report needs none of its files.
    #[arg(long, default_value = "lab/target/ablation")]
    work: PathBuf,
    /// Number of units to run at once.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Threads per unit.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Device to compute on, as for medst pretrain.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Start no further unit after this many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Retry units that failed.
    #[arg(long)]
    retry: bool,
}

#[derive(Debug, Args)]
struct Report {
    #[command(flatten)]
    which: Which,
    /// Page to write. Plots are written to a folder next to it with the same name, which also holds
    /// discussion.md.
    #[arg(long, default_value = "docs/evidence.md")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Run(arguments) => {
            let (study, units) = chosen(&arguments.which)?;
            let how = unit::How {
                medst: arguments.medst,
                work: arguments.work,
                threads: arguments.threads,
                device: arguments.device,
            };
            run::run(&study, units, &how, arguments.workers, arguments.minutes, arguments.retry)
        }
        Command::Plan(which) => {
            let (study, units) = chosen(&which)?;
            run::plan(&study, &units)
        }
        Command::Report(arguments) => {
            let (study, units) = chosen(&arguments.which)?;
            page::write(&study, &units, &arguments.out)
        }
    }
}

/// The study, and its units that were asked for, in the order in which they are run.
fn chosen(which: &Which) -> Result<(study::Study, Vec<unit::Unit>)> {
    let study = study::Study::load(&which.study)?;
    for name in &which.arms {
        study.arm(name)?;
    }
    let wanted = |unit: &unit::Unit| {
        (which.arms.is_empty() || which.arms.contains(&unit.arm))
            && (which.seeds.is_empty() || which.seeds.contains(&unit.seed))
    };
    let units = study.units().into_iter().filter(wanted).collect();
    Ok((study, units))
}
