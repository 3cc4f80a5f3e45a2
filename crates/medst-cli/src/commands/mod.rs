//! One file a command: typed arguments to library calls, results to text or JSON.

mod card;
mod compare;
mod convert;
mod embed;
mod eval;
mod ground;
mod inspect;
mod open;
mod phantom;
mod prepare;
mod pretrain;
mod search;
mod serve;
mod time_point;
mod verify;
mod zero_shot;

use std::fmt::Display;
use std::io::Write;

use anyhow::Result;
use medst::Error;
use medst_data::printable;
use serde::Serialize;
use tch::Device;

use crate::args::{Arguments, Command, DeviceName};
use crate::launch;
use crate::progress::{self, Reporter};

/// Runs what was typed.
///
/// * `typed`: the arguments as text, for results that tell how they were made.
pub fn run(arguments: Arguments, typed: Vec<String>) -> Result<()> {
    let together = matches!(arguments.command, Command::Pretrain(_) | Command::Prepare { .. });
    if !together && !launch::check_alone()? {
        return Ok(());
    }
    progress::catch_interrupt()?;
    let output = Output { json: arguments.json, typed };
    let reporter = Reporter::new(arguments.quiet);
    match arguments.command {
        Command::Phantom(arguments) => phantom::run(&arguments, &output, &reporter),
        Command::Prepare { source } => prepare::run(&source, &output, &reporter),
        Command::Pretrain(arguments) => pretrain::run(&arguments, &output, &reporter),
        Command::Embed(arguments) => embed::run(&arguments, &output, &reporter),
        Command::ZeroShot(arguments) => zero_shot::run(&arguments, &output, &reporter),
        Command::Compare(arguments) => compare::run(&arguments, &output),
        Command::Ground(arguments) => ground::run(&arguments, &output, &reporter),
        Command::Search { what } => search::run(&what, &output, &reporter),
        Command::Serve(arguments) => serve::run(&arguments, &reporter),
        Command::Eval(arguments) => eval::run(&arguments, &output, &reporter),
        Command::Card(arguments) => card::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments, &output),
        Command::Verify { path } => verify::run(&path, &output, &reporter),
        Command::Inspect { path } => inspect::run(&path, &output),
    }
}

/// Where results go.
pub struct Output {
    json: bool,
    typed: Vec<String>,
}

impl Output {
    /// The command as one types it, without the path to the program.
    pub fn command(&self) -> Vec<String> {
        std::iter::once("medst".to_string()).chain(self.typed.iter().cloned()).collect()
    }

    /// Prints a result as text or JSON.
    pub fn show<T: Display + Serialize>(&self, result: &T) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            // Text first: serde_json hides what kind of writing error it met, and a closed pipe is none of ours.
            writeln!(out, "{}", serde_json::to_string_pretty(result)?)?;
        } else {
            write!(out, "{}", printable::printable(&result.to_string()))?;
        }
        Ok(())
    }

    /// Prints what to do next, unless a program reads.
    pub fn next(&self, lines: &[String]) -> Result<()> {
        if !self.json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "next:")?;
            lines.iter().try_for_each(|line| writeln!(out, "  {}", printable::one_line(line)))?;
        }
        Ok(())
    }
}

/// The device that was asked for.
///
/// # Errors
/// CUDA where there is none.
pub fn device(name: DeviceName) -> Result<Device> {
    if name == DeviceName::Cpu {
        return Ok(Device::Cpu);
    }
    let found = medst::device::cuda();
    match (name, found) {
        (_, Some(device)) => Ok(device),
        (DeviceName::Cuda, None) => {
            Err(Error::Config("--device cuda: no CUDA device or CUDA build of libtorch was found".into()).into())
        }
        _ => Ok(Device::Cpu),
    }
}
