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
    /// Keep only what is between blocks and compute each block again in the backward pass: less memory, a step takes about 1.25 times as long
    /// (the key train.checkpoint_activations).
    #[arg(long)]
    pub checkpoint_activations: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
}
