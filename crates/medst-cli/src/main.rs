//! The `medst` command.

fn main() -> std::process::ExitCode {
    medst_cli::run(std::env::args_os().collect()).into()
}
