//! Options of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Compute, Dicom};

#[derive(Debug, Args)]
pub struct Serve {
    /// Model to serve, as PATH or NAME=PATH; may be repeated. Requests that name no model use the
    /// first.
    #[arg(long, required = true, value_name = "[NAME=]PATH")]
    pub model: Vec<String>,
    /// Search index to serve, as PATH or NAME=PATH; may be repeated.
    #[arg(long, value_name = "[NAME=]PATH")]
    pub index: Vec<String>,
    /// Calibration of classes for the first model (made by medst zero-shot --fit-calibration); may
    /// be repeated.
    #[arg(long, value_name = "FILE")]
    pub calibration: Vec<PathBuf>,
    /// Calibration of courses for the first model (made by medst compare --fit-calibration).
    #[arg(long, value_name = "FILE")]
    pub courses: Option<PathBuf>,
    /// Folder of example patients, one sub-folder per patient, that visitors of the page can try.
    #[arg(long, value_name = "DIR")]
    pub examples: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8750")]
    pub bind: SocketAddr,
    /// Host name that clients may use for this service, such as the name of a proxy; may be
    /// repeated. The names and addresses of the loopback interface are always accepted; if the
    /// service listens on an address that other machines can reach, so is every IP address.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// File with the token that requests must carry [default: the variable MEDST_TOKEN, otherwise a
    /// random token that is printed at start-up with a link to the page].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Require no token: every user and program that can reach the address may send requests.
    #[arg(long, conflicts_with = "token_file")]
    pub no_token: bool,
    /// Largest request body, in MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_body: u32,
    /// Largest image, in millions of pixels.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub max_pixels: u32,
    /// Memory for all request bodies, decoded images and responses together, in MiB; at least six
    /// times --max-body
    /// [default: half of the memory of the machine or control group, at least 512].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_memory: Option<u32>,
    /// Maximum number of open connections; beyond it, a new one replaces the connection that has
    /// waited longest for its client.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Maximum number of open connections per client address. With a proxy in front of the service,
    /// all clients share the proxy's address.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_peer_connections: u32,
    /// Maximum number of requests in progress; further ones are answered with status 429 and
    /// Retry-After.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_requests: u32,
    /// Maximum number of jobs that wait for a model; further requests are answered with status 429
    /// and Retry-After.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_queue: u32,
    /// Seconds within which a request must be answered.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub answer_seconds: u32,
    /// Seconds to let running requests finish on shutdown.
    #[arg(long, default_value_t = 30)]
    pub drain_seconds: u32,
    #[command(flatten)]
    pub how: Compute,
    #[command(flatten)]
    pub dicom: Dicom,
}
