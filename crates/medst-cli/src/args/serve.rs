//! `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::Compute;

#[derive(Debug, Args)]
pub struct Serve {
    /// A model to serve, as PATH or NAME=PATH; may be repeated. The first is what requests get that name none.
    #[arg(long, required = true, value_name = "[NAME=]PATH")]
    pub model: Vec<String>,
    /// An index to serve, as PATH or NAME=PATH; may be repeated.
    #[arg(long, value_name = "[NAME=]PATH")]
    pub index: Vec<String>,
    /// A calibration of classes of the first model; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub calibration: Vec<PathBuf>,
    /// A calibration of courses of the first model (medst compare --fit-calibration).
    #[arg(long, value_name = "FILE")]
    pub courses: Option<PathBuf>,
    /// A folder of example patients, a folder each, that the page offers to try it with.
    #[arg(long, value_name = "DIR")]
    pub examples: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8750")]
    pub bind: SocketAddr,
    /// A name by which browsers and programs may call the service, such as that of a proxy; may be repeated. The loopback's
    /// names and addresses are always accepted, and on an address that others can reach all addresses.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// A file with the token that requests must carry [default: the variable MEDST_TOKEN; else a random token, which is
    /// printed at the start with a link that opens the page].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Require no token: every user and program that can reach the address may ask.
    #[arg(long, conflicts_with = "token_file")]
    pub no_token: bool,
    /// Largest body in MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_body: u32,
    /// Largest picture in millions of pixels.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub max_pixels: u32,
    /// Memory in MiB for all bodies, pictures that are decoded, and answers together; at least six times --max-body
    /// [default: half of what the machine or the process' control group has, at least 512].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_memory: Option<u32>,
    /// Most open connections; the one that has waited longest for its client makes way for a new one.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Most open connections of one address. Behind a proxy all clients have the proxy's.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_peer_connections: u32,
    /// Most requests in progress; more are told to come back.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_requests: u32,
    /// Most jobs that wait for a model; more are told to come back.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_queue: u32,
    /// Seconds for an answer.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub answer_seconds: u32,
    /// Seconds for the requests in progress when it is told to end.
    #[arg(long, default_value_t = 30)]
    pub drain_seconds: u32,
    #[command(flatten)]
    pub how: Compute,
}
