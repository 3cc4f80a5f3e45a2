//! Options of `pretrain` and `finetune`.

use std::path::PathBuf;

use clap::Args;

use super::DeviceName;

#[derive(Debug, Args)]
pub struct Pretrain {
    /// Configuration file (TOML), such as configs/pretrain.toml.
    pub config: PathBuf,
    /// Override a key of the configuration, such as optimizer.lr=1e-4; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Continue the run in the configured output folder.
    #[arg(long)]
    pub resume: bool,
    /// Device to compute on.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}

#[derive(Debug, Args)]
pub struct Finetune {
    /// Configuration file (TOML), such as configs/finetune.toml.
    pub config: PathBuf,
    /// Override a key of the configuration, such as train.epochs=5; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Continue the run in the configured output folder.
    #[arg(long)]
    pub resume: bool,
    /// Device to compute on.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}
