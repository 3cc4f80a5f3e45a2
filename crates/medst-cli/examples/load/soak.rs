//! Good, bad, oversized and aborted requests for a while. Every request gets the answer that it
//! should get, or is one that its client gave up; the service's memory, threads and descriptors do
//! not grow; on a stop request it exits with 0.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Body, Client, figure, head};
use crate::stage::{Result, Stage, Usage};

pub struct SoakOptions {
    pub seconds: f64,
    /// Requests a second, all clients together.
    pub rate: f64,
    pub clients: usize,
    /// Most that the resident memory may grow from the middle third to the last.
    pub growth_mib: f64,
}

/// Longer than the service waits for headers.
const LINGER: Duration = Duration::from_secs(25);

/// What a client does.
enum Deed {
    /// Sends a request, and expects an answer of this status.
    Ask { path: &'static str, body: Body, status: u16 },
    /// Disconnects after a number of bytes of the request, or without reading the answer.
    Leave { path: &'static str, body: Body, after: usize },
    /// Declares a body that is larger than allowed and begins to send it.
    Declare { bytes: usize },
}

/// How requests ended, by what was done.
#[derive(Default)]
struct Tally {
    expected: BTreeMap<&'static str, u64>,
    busy: u64,
    left: u64,
    wrong: Vec<String>,
}

/// Requests of every kind.
fn deeds(stage: &Stage) -> Result<Vec<(&'static str, Deed)>> {
    let png = stage.pictures("table", 6, 256)?;
    let dicom = stage.pictures("rsna", 4, 256)?;
    stage.run(&["-q", "search", "index", "table", "--model", "model", "--out", "index"])?;
    let (a, b) = (fs::read(&png[0])?, fs::read(&png[1])?);
    let dicom = fs::read(&dicom[0])?;
    let mut bomb = a.clone();
    // The width and height of a PNG file.
    bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let whole = Body::parts(&[("frontal", &a, true)]);
    let cut = Body { bytes: whole.bytes[..whole.bytes.len() - 60].to_vec(), ..whole.clone() };
    let ask = |path, body, status| Deed::Ask { path, body, status };
    let file = |bytes: &[u8]| Body::parts(&[("frontal", bytes, true)]);
    let long = "pneumonia ".repeat(10_000);
    let report = b"FINDINGS: Small left pleural effusion. IMPRESSION: No edema.";
    Ok(vec![
        ("good", ask("/v1/embed", file(&a), 200)),
        ("good", ask("/v1/embed", file(&dicom), 200)),
        ("good", ask("/v1/embed", Body::json(&json!({"texts": ["no pneumothorax", "large effusion"]})), 200)),
        (
            "good",
            ask(
                "/v1/zero-shot",
                Body::parts(&[("frontal", &a, true), ("lateral", &b, true), ("classes", b"[\"edema\"]", false)]),
                200,
            ),
        ),
        (
            "good",
            ask(
                "/v1/compare",
                Body::parts(&[
                    ("time_points.0.frontal", &a, true),
                    ("time_points.0.report", report, false),
                    ("time_points.1.frontal", &b, true),
                ]),
                200,
            ),
        ),
        (
            "good",
            ask(
                "/v1/ground",
                Body::parts(&[
                    ("frontal", &b, true),
                    ("phrase", b"pleural effusion", false),
                    ("pictures", b"true", false),
                ]),
                200,
            ),
        ),
        ("good", ask("/v1/search", Body::json(&json!({"text": "edema", "count": 3})), 200)),
        ("bad", ask("/v1/embed", Body::json(&json!({"texts": [long]})), 400)),
        ("bad", ask("/v1/embed", Body { kind: "application/json".into(), bytes: b"{\"texts\": [".to_vec() }, 400)),
        ("bad", ask("/v1/embed", cut, 400)),
        ("bad", ask("/v1/embed", file(&a[..a.len() / 2]), 400)),
        ("bad", ask("/v1/embed", file(b"\xff\xd8\xff\xe0 nothing"), 400)),
        ("bad", ask("/v1/zero-shot", Body::json(&json!({"frontal": "AAAA", "classes": []})), 400)),
        ("bad", ask("/v1/embed", Body::json(&json!({"texts": ["edema"], "model": "../model"})), 404)),
        ("bad", ask("/v1/search", Body { kind: "text/plain".into(), bytes: b"edema".to_vec() }, 415)),
        ("oversized", ask("/v1/embed", file(&bomb), 413)),
        ("oversized", ask("/v1/embed", file(&vec![7; 3 << 20]), 413)),
        ("oversized", Deed::Declare { bytes: 1 << 40 }),
        ("aborted", Deed::Leave { path: "/v1/embed", body: file(&a), after: 40 }),
        ("aborted", Deed::Leave { path: "/v1/embed", body: file(&a), after: 2000 }),
        ("aborted", Deed::Leave { path: "/v1/ground", body: file(&a), after: usize::MAX }),
        ("aborted", Deed::Leave { path: "/v1/embed", body: file(&a), after: usize::MAX }),
    ])
}

/// Prints what happened and the verdict.
pub fn run(stage: &Stage, options: &SoakOptions) -> Result<bool> {
    let deeds = deeds(stage)?;
    let mut serving = stage.serve(&["--index", "index", "--max-body", "2"])?;
    let address = serving.address;
    let tally = Mutex::new(Tally::default());
    let (start, end) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let pause = Duration::from_secs_f64(options.clients as f64 / options.rate);
    // The first request of each kind is slower and allocates memory that is kept.
    perform_all(&deeds, address, &tally);
    let idle = serving.usage();
    let mut seen: Vec<(f64, Usage)> = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..options.clients {
            let (tally, deeds) = (&tally, &deeds);
            scope.spawn(move || {
                let mut client = Client::new(address);
                let mut turn = number * 7;
                while start.elapsed() < end {
                    let begun = Instant::now();
                    // Half of all requests are good ones.
                    let goods = deeds.iter().filter(|deed| deed.0 == "good").count();
                    let index = if turn % 2 == 0 { turn / 2 % goods } else { turn / 2 % deeds.len() };
                    turn += 1;
                    perform(&deeds[index], &mut client, address, tally);
                    std::thread::sleep(pause.saturating_sub(begun.elapsed()).min(end.saturating_sub(start.elapsed())));
                }
            });
        }
        scope.spawn(|| {
            while end.saturating_sub(start.elapsed()) > LINGER {
                let ended = linger(address);
                if let Ok(mut tally) = tally.lock() {
                    match ended {
                        Ok(()) => tally.left += 1,
                        Err(error) => tally.wrong.push(format!("slow headers: {error}")),
                    }
                }
            }
        });
        while start.elapsed() < end {
            std::thread::sleep((end / 60).min(end.saturating_sub(start.elapsed()) + Duration::from_millis(1)));
            seen.push((start.elapsed().as_secs_f64(), serving.usage()));
        }
    });
    let mut tally = tally.into_inner().map_err(|_| "a client panicked")?;
    let mut problems = std::mem::take(&mut tally.wrong);
    settle(address, &mut problems)?;
    verdict(options, idle, &seen, serving.usage(), &mut problems);
    if !serving.is_running() {
        problems.push("the service ended by itself".into());
    }
    let code = serving.terminate(Duration::from_secs(40))?;
    if code != Some(0) {
        problems.push(format!("told to end, the service ended with {code:?}"));
    }
    if serving.said().contains("panicked") {
        problems.push(serving.said());
    }
    let answered: u64 = tally.expected.values().sum();
    println!(
        "{answered} requests answered as expected {:?}, {} told to come back, {} given up by their clients",
        tally.expected, tally.busy, tally.left
    );
    println!("{} wrong or lost", problems.len());
    problems.iter().take(20).for_each(|problem| println!("  {problem}"));
    println!("{}", if problems.is_empty() { "held" } else { "DID NOT HOLD" });
    Ok(problems.is_empty())
}

fn perform_all(deeds: &[(&'static str, Deed)], address: SocketAddr, tally: &Mutex<Tally>) {
    let mut client = Client::new(address);
    for deed in deeds.iter() {
        perform(deed, &mut client, address, tally);
    }
}

fn perform((kind, deed): &(&'static str, Deed), client: &mut Client, address: SocketAddr, tally: &Mutex<Tally>) {
    let ended: std::io::Result<Option<(u16, u16, bool)>> = match deed {
        Deed::Ask { path, body, status } => {
            client.post(path, body).map(|answer| Some((answer.status, *status, answer.retry_after)))
        }
        Deed::Declare { bytes } => declare(address, *bytes).map(|status| Some((status, 413, false))),
        Deed::Leave { path, body, after } => leave(address, path, body, *after).map(|()| None),
    };
    let Ok(mut tally) = tally.lock() else { return };
    match ended {
        Ok(None) => tally.left += 1,
        Ok(Some((status, expected, _))) if status == expected => *tally.expected.entry(kind).or_default() += 1,
        Ok(Some((429, _, true))) => tally.busy += 1,
        Ok(Some((status, expected, _))) => tally.wrong.push(format!("{kind}: {status} where {expected} was expected")),
        Err(error) => tally.wrong.push(format!("{kind}: no answer: {error}")),
    }
}

/// The status that a declared length gets.
fn declare(address: SocketAddr, bytes: usize) -> std::io::Result<u16> {
    let mut stream = Client::connect(address)?;
    stream.write_all(head("/v1/embed", "application/json", bytes).as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let status = std::str::from_utf8(&answer[9..]).ok().and_then(|text| text.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no status"))
}

fn leave(address: SocketAddr, path: &str, body: &Body, after: usize) -> std::io::Result<()> {
    let mut stream = Client::connect(address)?;
    let request = [head(path, &body.kind, body.bytes.len()).as_bytes(), &body.bytes].concat();
    stream.write_all(&request[..after.min(request.len())])?;
    stream.shutdown(Shutdown::Both)
}

/// Sends the start of a request's headers and waits for the service to close the connection.
fn linger(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = Client::connect(address)?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")?;
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

/// Without new requests, no request may be in progress and no job may wait.
fn settle(address: SocketAddr, problems: &mut Vec<String>) -> Result<()> {
    let start = Instant::now();
    loop {
        let text = String::from_utf8(Client::new(address).get("/metrics")?.body)?;
        let waiting = figure(&text, "medst_requests_in_flight") + figure(&text, "medst_queue_jobs");
        if waiting == 0.0 {
            break;
        }
        if start.elapsed() > Duration::from_secs(30) {
            problems.push(format!("{waiting} requests or jobs are still in progress"));
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let health = Client::new(address).get("/health")?;
    if health.status != 200 {
        problems.push(format!("/health says {}", health.status));
    }
    Ok(())
}

fn verdict(options: &SoakOptions, idle: Usage, seen: &[(f64, Usage)], last: Usage, problems: &mut Vec<String>) {
    println!("   time    resident   threads   descriptors");
    let show = |when: &str, usage: &Usage| {
        println!("{when:>7}  {:7.1} MiB   {:5}   {:5}", usage.resident_mib, usage.threads, usage.descriptors);
    };
    show("begin", &idle);
    for (seconds, usage) in seen.iter().skip(seen.len() / 6 / 2).step_by((seen.len() / 6).max(1)) {
        show(&format!("{seconds:.0} s"), usage);
    }
    show("end", &last);
    let third = seen.len() / 3;
    let median = |part: &[(f64, Usage)]| {
        let mut values: Vec<f64> = part.iter().map(|sample| sample.1.resident_mib).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let most = |part: &[(f64, Usage)]| part.iter().map(|sample| sample.1.threads).max().unwrap_or(0);
    let (middle, end) = (&seen[third..2 * third], &seen[2 * third..]);
    let growth = median(end) - median(middle);
    println!("resident memory from the middle third to the last: {growth:+.1} MiB");
    // A growth that is NaN proves nothing.
    if growth.is_nan() || growth > options.growth_mib {
        problems.push(format!("the memory grew by {growth:.1} MiB"));
    }
    if most(end) > most(middle) + 8 {
        problems.push(format!("{} threads, {} before", most(end), most(middle)));
    }
    if last.descriptors > idle.descriptors + 4 {
        problems.push(format!("{} descriptors at the end, {} at the beginning", last.descriptors, idle.descriptors));
    }
}
