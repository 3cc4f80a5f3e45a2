//! `medst serve`.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use medst_data::progress::Progress;
use medst_model::Error;
use medst_serve::state::Calibrations;
use medst_serve::{Access, Limits, ServeConfig, Service, auth, listen, memory};

use super::open;
use crate::args::Serve;
use crate::progress::Reporter;

/// Bytes of a token's file that are read.
const LONGEST_TOKEN: u64 = 4096;

pub fn run(arguments: &Serve, reporter: &Reporter) -> Result<()> {
    // Log one line of JSON per event.
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_current_span(false).with_target(false).init();
    // Do not log the message of a panic: it may quote data of a client.
    std::panic::set_hook(Box::new(|info| {
        tracing::error!(at = info.location().map(ToString::to_string), "panicked");
    }));
    let (access, drawn) = access(arguments)?;
    let limits = Limits {
        body: arguments.max_body as usize * (1 << 20),
        pixels: arguments.max_pixels as usize * 1_000_000,
        memory: match arguments.max_memory {
            Some(mebibytes) => mebibytes as usize * (1 << 20),
            None => (memory::of_process().unwrap_or(0) / 2).max(512 << 20),
        },
        connections: arguments.max_connections as usize,
        peer_connections: arguments.max_peer_connections as usize,
        requests: arguments.max_requests as usize,
        queue: arguments.max_queue as usize,
        answer: Duration::from_secs(arguments.answer_seconds.into()),
        drain: Duration::from_secs(arguments.drain_seconds.into()),
        ..Limits::default()
    };
    let config = ServeConfig::new(arguments.bind, access, &arguments.allow_host, limits)?;
    let mut service = Service::new(&config)?;
    let calibrations = Calibrations { classes: &arguments.calibration, courses: arguments.courses.as_deref() };
    for (number, text) in arguments.model.iter().enumerate() {
        let (name, path) = named(text);
        let engine = open::load(Path::new(path), &arguments.how, arguments.dicom.window)?;
        let calibrations_of_model = if number == 0 { calibrations.clone() } else { Calibrations::default() };
        service.add_model(name, engine, &calibrations_of_model)?;
    }
    for text in &arguments.index {
        let (name, path) = named(text);
        service.add_index(name, Path::new(path))?;
    }
    if let Some(folder) = &arguments.examples {
        service.set_examples(folder)?;
    }
    let ready = |address| announce(address, drawn.as_deref());
    Ok(listen::serve(&config, service.finish()?, || reporter.stop_requested(), ready)?)
}

/// `NAME=PATH`, or a path whose last part is the name.
fn named(text: &str) -> (&str, &str) {
    match text.split_once('=') {
        Some((name, path)) if !name.contains('/') => (name, path),
        _ => {
            let name = Path::new(text).file_name().and_then(|name| name.to_str());
            (name.unwrap_or(text), text)
        }
    }
}

/// The access rule, and the token if it is a new random one.
fn access(arguments: &Serve) -> Result<(Access, Option<String>)> {
    if arguments.no_token {
        return Ok((Access::Open, None));
    }
    if let Some(file) = &arguments.token_file {
        // A pipe is welcome here, as of `<(pass show medst)`; a device without end is not read to
        // its end.
        let mut token = String::new();
        let read = File::open(file).and_then(|text| text.take(LONGEST_TOKEN).read_to_string(&mut token));
        read.map_err(Error::io(file))?;
        return Ok((Access::Token(token.trim().to_string()), None));
    }
    if let Ok(token) = std::env::var("MEDST_TOKEN") {
        return Ok((Access::Token(token), None));
    }
    let token = auth::random()?;
    Ok((Access::Token(token.clone()), Some(token)))
}

/// Prints the address of the service. Prints the token only if it is a new random one.
fn announce(address: SocketAddr, drawn: Option<&str>) {
    eprintln!("serving at http://{address}, API reference at http://{address}/reference");
    let Some(token) = drawn else { return };
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    };
    eprintln!(
        "open http://{here}/?token={token} in a browser; API clients send the header Authorization: Bearer {token}"
    );
}
