//! The `medst` command, for the binary of that name and for the Python package, whose installation brings the same command.

mod args;
mod commands;
mod exit;
mod launch;
mod progress;

use std::ffi::OsString;

use clap::Parser;

/// Runs what was typed and returns the exit code: 0 done, 2 wrong usage or configuration, 130 stopped by Ctrl-C, 1 anything else.
///
/// * `typed`: the name of the program, then its arguments.
pub fn run(typed: Vec<OsString>) -> u8 {
    medst::memory::install_pool();
    let arguments = match args::Arguments::try_parse_from(&typed) {
        Ok(arguments) => arguments,
        Err(error) => {
            // One of several processes says it for all.
            if launch::follows() {
                return 0;
            }
            // Help and version are no errors. What cannot be printed, nobody reads.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    let typed = typed.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect();
    exit::code(commands::run(arguments, typed))
}
