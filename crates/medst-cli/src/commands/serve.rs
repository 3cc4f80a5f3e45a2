//! `medst serve`.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use medst::Error;
use medst_data::progress::Progress;
use medst_serve::service::Calibrations;
use medst_serve::{Limits, ServeConfig, Service, listen};

use super::open;
use crate::args::Serve;
use crate::progress::Reporter;

pub fn run(arguments: &Serve, reporter: &Reporter) -> Result<()> {
    // One line of JSON an event.
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_current_span(false).with_target(false).init();
    let token = token(arguments)?;
    let limits = Limits {
        body: arguments.max_body as usize * (1 << 20),
        pixels: arguments.max_pixels as usize * 1_000_000,
        requests: arguments.max_requests as usize,
        queue: arguments.max_queue as usize,
        answer: Duration::from_secs(arguments.answer_seconds.into()),
        drain: Duration::from_secs(arguments.drain_seconds.into()),
        ..Limits::default()
    };
    let config = ServeConfig::new(arguments.bind, token, arguments.no_token, limits)?;
    let mut service = Service::new(&config);
    let calibrations = Calibrations { classes: &arguments.calibration, courses: arguments.courses.as_deref() };
    for (number, text) in arguments.model.iter().enumerate() {
        let (name, path) = named(text);
        let engine = open::load(Path::new(path), &arguments.how)?;
        let own = if number == 0 { calibrations.clone() } else { Calibrations::default() };
        service.add_model(name, engine, &own)?;
    }
    for text in &arguments.index {
        let (name, path) = named(text);
        service.add_index(name, Path::new(path))?;
    }
    if let Some(folder) = &arguments.examples {
        service.set_examples(folder)?;
    }
    let ready = |address| eprintln!("serving at http://{address}, the interface at http://{address}/reference");
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

fn token(arguments: &Serve) -> Result<Option<String>> {
    if arguments.no_token {
        return Ok(None);
    }
    if let Some(file) = &arguments.token_file {
        return Ok(Some(fs::read_to_string(file).map_err(Error::io(file))?.trim().to_string()));
    }
    if let Ok(token) = std::env::var("MEDST_TOKEN") {
        return Ok(Some(token));
    }
    if arguments.bind.ip().is_loopback() {
        return Ok(None);
    }
    let mut bytes = [0; 24];
    let random = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.context("no random token could be drawn; give --token-file")?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    eprintln!("others can reach {}: requests must carry the token {token}", arguments.bind);
    Ok(Some(token))
}
