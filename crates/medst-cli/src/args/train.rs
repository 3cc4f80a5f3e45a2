//! `pretrain`.

use std::path::PathBuf;

use clap::Args;

use super::DeviceName;

#[derive(Debug, Args)]
pub struct Pretrain {
    /// A TOML file such as configs/pretrain.toml.
    pub config: PathBuf,
    /// Override a key of it, such as optimizer.lr=1e-4; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Continue the run in the configured output folder.
    #[arg(long)]
    pub resume: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}
