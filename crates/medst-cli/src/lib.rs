//! The `medst` command, for the binary and for the Python package, which installs the same command.

mod args;
mod commands;
mod exit;
mod launch;
mod progress;

use std::ffi::OsString;

use clap::Parser;

/// Runs a command line and returns the exit code: 0 success, 2 wrong usage or configuration, 130
/// stopped by Ctrl-C, 1 any other error.
///
/// * `typed`: the name of the program, followed by its arguments.
pub fn run(typed: Vec<OsString>) -> u8 {
    medst_model::memory::install_pool();
    medst_data::warning::send_to(progress::warn);
    let arguments = match args::Arguments::try_parse_from(&typed) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Only process 0 prints the message.
            if launch::follows() {
                return 0;
            }
            // Help and version are not errors. If printing fails, there is nothing else to do.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    let typed = typed.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect();
    exit::code(commands::run(arguments, typed))
}
