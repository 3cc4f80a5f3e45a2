//! The `medst` command.

mod args;
mod commands;
mod exit;
mod launch;
mod progress;

use clap::Parser;

fn main() -> std::process::ExitCode {
    medst::memory::install_pool();
    exit::code(commands::run(args::Arguments::parse()))
}
