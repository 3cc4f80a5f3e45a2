//! Tests the real `medst serve` over sockets, with many clients.
//!
//!     cargo run --release -p medst-cli --example load -- throughput model=full images=192
//!     cargo run --release -p medst-cli --example load -- soak minutes=30 rate=4
//!
//! `throughput`: images/s of offline `medst embed` and of the service with `clients=64` on the same
//! files of `layout=mimic-cxr-jpg` (JPEG), `table` (PNG) or `rsna` (DICOM), `side=` pixels, or of
//! `folder=` (each under `copies=` names). `soak`: good, bad, oversized and aborted requests for a
//! while; every one is accounted for. Both exit with 0 only if every requirement was met.

mod client;
mod soak;
mod stage;
mod throughput;

use std::process::ExitCode;
use std::str::FromStr;

use stage::{Result, Stage};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, rest) = arguments.split_first().ok_or("expected throughput or soak")?;
    let word = |key: &str, default: &str| {
        let found = rest.iter().filter_map(|text| text.split_once('=')).find(|(name, _)| *name == key);
        found.map_or(default, |(_, value)| value).to_string()
    };
    fn number<T: FromStr>(text: String) -> Result<T> {
        text.parse().map_err(|_| format!("{text}: expected a number").into())
    }
    // `medst` is stored next to the folder of examples.
    let medst = std::env::current_exe()?.parent().and_then(|folder| folder.parent()).map(|at| at.join("medst"));
    let stage = Stage::new(medst.ok_or("no folder of programs")?)?;
    match mode.as_str() {
        "throughput" => {
            stage.model(&word("model", "full"))?;
            let options = throughput::ThroughputOptions {
                clients: number(word("clients", "64"))?,
                images: number(word("images", "192"))?,
                side: number(word("side", "512"))?,
                rounds: number(word("rounds", "1"))?,
                layout: word("layout", "mimic-cxr-jpg"),
                folder: Some(word("folder", "")).filter(|folder| !folder.is_empty()).map(Into::into),
                copies: number(word("copies", "1"))?,
                batch: word("batch", "16"),
            };
            throughput::run(&stage, &options)
        }
        "soak" => {
            let options = soak::SoakOptions {
                seconds: 60.0 * number::<f64>(word("minutes", "30"))?,
                rate: number(word("rate", "4"))?,
                clients: number(word("clients", "8"))?,
                growth_mib: number(word("growth", "32"))?,
            };
            stage.model("small")?;
            soak::run(&stage, &options)
        }
        other => Err(format!("{other}: expected throughput or soak").into()),
    }
}
