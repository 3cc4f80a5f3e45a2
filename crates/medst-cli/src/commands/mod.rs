//! One file per command: from arguments to library calls, and from results to text or JSON.

mod card;
mod compare;
mod convert;
mod demo;
mod embed;
mod eval;
mod finetune;
mod ground;
mod inspect;
mod open;
mod phantom;
mod predict;
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
use medst_data::printable;
use medst_model::Error;
use serde::Serialize;
use tch::Device;

use crate::args::{Arguments, Command, DeviceName};
use crate::launch;
use crate::progress::{self, Reporter};

/// Runs a command.
///
/// * `typed`: the arguments as text, for results that record how they were made.
pub fn run(arguments: Arguments, typed: Vec<String>) -> Result<()> {
    let together = matches!(arguments.command, Command::Pretrain(_) | Command::Finetune(_) | Command::Prepare { .. });
    if !together && !launch::check_alone()? {
        return Ok(());
    }
    progress::catch_interrupt()?;
    let output = Output { json: arguments.json, verbosity: Verbosity::WithHints, typed };
    let reporter = Reporter::new(arguments.quiet);
    medst_data::hub::report_to(Box::new(Reporter::new(arguments.quiet)));
    dispatch(arguments.command, &output, &reporter)
}

fn dispatch(command: Command, output: &Output, reporter: &Reporter) -> Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, output, reporter),
        Command::Phantom(arguments) => phantom::run(&arguments, output, reporter),
        Command::Prepare { source } => prepare::run(&source, output, reporter),
        Command::Pretrain(arguments) => pretrain::run(&arguments, output, reporter),
        Command::Finetune(arguments) => finetune::run(&arguments, output, reporter),
        Command::Embed(arguments) => embed::run(&arguments, output, reporter),
        Command::ZeroShot(arguments) => zero_shot::run(&arguments, output, reporter),
        Command::Predict(arguments) => predict::run(&arguments, output, reporter),
        Command::Compare(arguments) => compare::run(&arguments, output),
        Command::Ground(arguments) => ground::run(&arguments, output, reporter),
        Command::Search { what } => search::run(&what, output, reporter),
        Command::Serve(arguments) => serve::run(&arguments, reporter),
        Command::Eval(arguments) => eval::run(&arguments, output, reporter),
        Command::Card(arguments) => card::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments, output),
        Command::Verify { path } => verify::run(&path, output, reporter),
        Command::Inspect { path } => inspect::run(&path, output),
    }
}

/// What is printed of a command. `medst demo` runs commands that print less.
#[derive(Clone, Copy, PartialEq)]
enum Verbosity {
    /// The result, and what to do next.
    WithHints,
    Result,
    Nothing,
}

/// Prints results, as text or as JSON.
pub struct Output {
    json: bool,
    verbosity: Verbosity,
    typed: Vec<String>,
}

impl Output {
    /// The command line, without the path of the program.
    pub fn command(&self) -> Vec<String> {
        std::iter::once("medst".to_string()).chain(self.typed.iter().cloned()).collect()
    }

    /// Prints a result as text or JSON.
    pub fn show<T: Display + Serialize>(&self, result: &T) -> Result<()> {
        if self.verbosity == Verbosity::Nothing {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            // Serialise before writing: serde_json hides the kind of an I/O error, but a closed
            // pipe must be recognised.
            writeln!(out, "{}", serde_json::to_string_pretty(result)?)?;
        } else {
            write!(out, "{}", printable::printable(&result.to_string()))?;
        }
        Ok(())
    }

    /// Prints suggestions for the next command, but not with --json.
    pub fn next(&self, lines: &[String]) -> Result<()> {
        if !self.json && self.verbosity == Verbosity::WithHints {
            let mut out = std::io::stdout().lock();
            writeln!(out, "next:")?;
            lines.iter().try_for_each(|line| writeln!(out, "  {}", printable::one_line(line)))?;
        }
        Ok(())
    }
}

/// The requested device. Every command that computes asks for it first.
///
/// # Errors
/// CUDA was requested but is not available.
pub fn device(name: DeviceName) -> Result<Device> {
    // Several processes share a machine that is theirs alone, and each would start a thread per
    // core.
    if launch::is_alone() {
        medst_model::waiting::sleep_instead_of_spinning();
    }
    if name == DeviceName::Cpu {
        return Ok(Device::Cpu);
    }
    let found = medst_model::device::cuda();
    match (name, found) {
        (_, Some(device)) => Ok(device),
        (DeviceName::Cuda, None) => {
            Err(Error::Input("--device cuda: found no CUDA device, or libtorch was built without CUDA".into()).into())
        }
        _ => Ok(Device::Cpu),
    }
}
