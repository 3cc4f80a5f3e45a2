//! What is needed to try the service: a model with random weights, synthetic radiographs as files,
//! and the real `medst serve`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use medst_data::report::WordPiece;
use medst_model::model::config::{ImageConfig, ModelConfig, ProjectionConfig};
use medst_model::model::{MedSt, card};
use tch::{Device, Kind};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A folder with a model, pictures and whatever is made of them.
pub struct Stage {
    folder: tempfile::TempDir,
    medst: PathBuf,
}

impl Stage {
    /// * `medst`: the command.
    pub fn new(medst: PathBuf) -> Result<Stage> {
        if !medst.is_file() {
            return Err(format!("{}: not there; cargo build --release -p medst-cli", medst.display()).into());
        }
        Ok(Stage { folder: tempfile::tempdir()?, medst })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the command in the folder.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new(&self.medst).current_dir(self.folder.path()).args(arguments).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("medst {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    /// A model of random weights in the folder `model`: `full` (ViT-B/16, six layers of text),
    /// `medium` (ViT-S/16) or `small` (128 wide).
    pub fn model(&self, size: &str) -> Result<()> {
        let mut config = ModelConfig { initial_deviation: 0.1, ..ModelConfig::default() };
        match size {
            "full" => {}
            "small" => {
                config.image = ImageConfig {
                    size: 112,
                    patch: 16,
                    hidden_size: 128,
                    num_layers: 4,
                    num_heads: 4,
                    intermediate_size: 512,
                    ..Default::default()
                };
                config.text.hidden_size = 128;
                (config.text.num_layers, config.text.num_heads, config.text.intermediate_size) = (2, 4, 512);
                config.projection = ProjectionConfig { hidden: 128, embedding: 64 };
            }
            "medium" => {
                config.image =
                    ImageConfig { hidden_size: 384, num_heads: 6, intermediate_size: 1536, ..Default::default() };
            }
            other => return Err(format!("model={other}: expected full, medium or small").into()),
        }
        let folder = self.path("model");
        fs::create_dir(&folder)?;
        let model_card = card::ModelCard::new(&config, &WordPiece::bert_cased(), 0, "none".into());
        MedSt::new(&config, 1, Device::Cpu, Kind::Float)?.save(&folder.join(card::MODEL), Some(&model_card))?;
        fs::write(folder.join(card::CARD), serde_json::to_vec(&model_card)?)?;
        Ok(())
    }

    /// Draws patients in a layout of archives; their images.
    pub fn pictures(&self, layout: &str, subjects: usize, side: usize) -> Result<Vec<PathBuf>> {
        let (subjects, side) = (subjects.to_string(), side.to_string());
        self.run(&["-q", "phantom", layout, "--subjects", &subjects, "--size", &side, "--layout", layout])?;
        radiographs(&self.path(layout))
    }

    /// Starts the service and waits until it listens.
    pub fn serve(&self, more: &[&str]) -> Result<Serving> {
        let mut child = Command::new(&self.medst)
            .current_dir(self.folder.path())
            .args(["serve", "--model", "model", "--bind", "127.0.0.1:0", "--no-token"])
            .args(more)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().ok_or("no standard error")?), said.clone());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(std::io::Result::ok) {
                if let Some(rest) = line.strip_prefix("serving at http://") {
                    let _ = sender.send(rest.split(',').next().unwrap_or_default().to_string());
                }
                // The lines of requests are many.
                if !line.contains("\"request\"")
                    && let Ok(mut kept) = kept.lock()
                {
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
        });
        let address = receiver.recv_timeout(Duration::from_secs(60));
        let address = address.map_err(|_| said.lock().map(|lines| lines.clone()).unwrap_or_default())?.parse()?;
        Ok(Serving { child, address, said })
    }
}

/// Radiographs of a folder at any depth, in order.
pub fn radiographs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    files(folder, &mut found)?;
    let known = |path: &PathBuf| {
        path.extension().is_some_and(|end| ["jpg", "jpeg", "png", "dcm"].iter().any(|known| end == *known))
    };
    found.retain(known);
    found.sort();
    Ok(found)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

/// Processor time of a process, `/proc/PID`.
pub fn cpu_seconds(process: &str) -> f64 {
    // A hundredth of a second a tick, on every Linux of today.
    let text = fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A service that runs.
pub struct Serving {
    child: Child,
    pub address: SocketAddr,
    said: Arc<Mutex<String>>,
}

/// What the system says of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub resident_mib: f64,
    pub threads: usize,
    pub descriptors: usize,
}

impl Serving {
    pub fn usage(&self) -> Usage {
        let folder = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        let number = |name: &str| line(name).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
        Usage {
            resident_mib: number("VmRSS:") / 1024.0,
            threads: number("Threads:") as usize,
            descriptors: fs::read_dir(format!("{folder}/fd")).map_or(0, Iterator::count),
        }
    }

    /// The processor time it took so far, s.
    #[allow(dead_code)] // The soak does not ask.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&format!("/proc/{}", self.child.id()))
    }

    /// Lines of its log that are not about requests.
    pub fn said(&self) -> String {
        self.said.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM, as a service manager does; returns the exit code if the service ended in
    /// time.
    pub fn terminate(&mut self, within: Duration) -> Result<Option<i32>> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let start = Instant::now();
        while start.elapsed() < within {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
