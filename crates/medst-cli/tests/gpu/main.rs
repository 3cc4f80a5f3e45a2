//! The path through the program on a GPU, without a GPU: `pretended_cuda.cpp` takes the place of
//! `libtorch_cuda.so`, and every number must be the CPU's. What only a card can show, its speed and
//! its rounding, is left to `make bench-gpu`.

#[path = "../command/mod.rs"]
mod command;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use command::{SMALL, difference, repository, tiny, with};
use medst_infer::eval::Vectors;
use serde_json::Value;
use tch::{Kind, Tensor};

/// The folder of the pretended library, which is built once for all tests.
fn pretended() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pretended-gpu");
        let script = repository().join("tools/pretended_gpu.sh");
        let built = Command::new(script).arg(&folder).current_dir(repository()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        folder
    });
    &FOLDER
}

/// A corpus, and the command on either device.
struct Machine {
    library: &'static Path,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let (library, folder) = (pretended(), tempfile::tempdir().unwrap());
        command::run(folder.path(), &["-q", "phantom", "raw", "--subjects", "30", "--size", "64"], 0);
        let prepare = ["-q", "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "64"];
        command::run(folder.path(), &prepare, 0);
        Machine { library, folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the command on a device, and checks that it computed there. Returns standard output.
    fn run(&self, device: &str, arguments: &[&str]) -> String {
        let ledger = self.at("ledger.json");
        let _ = fs::remove_file(&ledger);
        let output = command::medst(self.folder.path())
            .env("LD_LIBRARY_PATH", self.library)
            .env("MEDST_PRETENDED_GPU", &ledger)
            .args([arguments, &["--device", device]].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(ledger.exists(), device == "cuda", "{arguments:?} on {device}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn pretrain(&self, device: &str, output: &str, settings: &[&str]) {
        let target = format!("train.output={output}");
        let usual = ["data.corpus=corpus", &target];
        let (configuration, settings) = (tiny(), [SMALL, EXACT, &usual, settings].concat());
        self.run(device, &with(&["-q", "pretrain", &configuration], &settings));
    }

    /// The first moments after one step, a tenth of the gradient, `[n]`.
    fn gradient(&self, run: &str) -> Tensor {
        let path = self.at(run).join("last/optimizer.safetensors");
        let all = Tensor::read_safetensors(path).unwrap();
        all.into_iter().find(|(name, _)| name == "exp_avg").unwrap().1.to_kind(Kind::Double)
    }

    /// Numbers of each step and validation.
    fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(run).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn assert_alike(&self, a: &str, b: &str) {
        let (first, second) = (self.metrics(a), self.metrics(b));
        assert_eq!(first.len(), second.len());
        assert!(!first.is_empty());
        for (one, other) in first.iter().zip(&second) {
            // Of numbers above 1 as a share.
            let off = difference(one, other, |a, b| (a - b).abs() / a.abs().max(1.0));
            assert!(off < 1e-6, "off by {off:e}\n{a}: {one}\n{b}: {other}");
        }
    }
}

/// In float64, where rounding does not hide what a mistake would change; with dropout.
const EXACT: &[&str] = &["train.precision=float64", "train.max_steps=4", "model.image.num_layers=2"];

#[test]
fn pre_training_on_a_gpu_is_that_on_a_cpu() {
    let machine = Machine::new();
    let variants: &[(&str, &[&str])] = &[
        ("plain", &[]),
        ("reference", &["model.semantics=reference"]),
        ("chunks", &["train.encode_studies=3"]),
        ("blocks", &["train.checkpoint_activations=true"]),
        ("averaged", &["train.average=0.9"]),
        ("sigmoid", &["loss.global=sigmoid"]),
    ];
    for (name, settings) in variants {
        let [cpu, gpu] = ["cpu", "cuda"].map(|device| {
            let output = format!("{name}-{device}");
            machine.pretrain(device, &output, settings);
            output
        });
        machine.assert_alike(&cpu, &gpu);
    }
    machine.assert_alike("plain-cuda", "chunks-cuda");
}

/// Layers in sixteen bits. The CPU and the pretended GPU sum in different orders, so they agree
/// only roughly.
#[test]
fn sixteen_bits_on_a_gpu() {
    let machine = Machine::new();
    for precision in ["bfloat16", "float16"] {
        let setting = format!("train.precision={precision}");
        let [cpu, gpu] = ["cpu", "cuda"].map(|device| {
            let output = format!("{precision}-{device}");
            machine.pretrain(device, &output, &[&setting, "train.max_steps=1", "loss.temporal_weight=0"]);
            (machine.metrics(&output)[0]["total"].as_f64().unwrap(), machine.gradient(&output))
        });
        assert!((cpu.0 / gpu.0 - 1.0).abs() < 0.02, "{precision}: {}, {}", cpu.0, gpu.0);
        let cosine = Tensor::cosine_similarity(&cpu.1, &gpu.1, 0, 1e-30).double_value(&[]);
        assert!(cosine > 0.99, "{precision}: {cosine}");
    }
}

#[test]
fn embeddings_on_a_gpu_are_those_on_a_cpu() {
    let machine = Machine::new();
    machine.pretrain("cuda", "run", &[]);
    for (device, out) in [("cpu", "cpu.npy"), ("cuda", "gpu.npy")] {
        machine.run(device, &["-q", "embed", "corpus", "--model", "run", "--out", out]);
    }
    for (a, b) in [("cpu.npy", "gpu.npy"), ("cpu.reports.npy", "gpu.reports.npy")] {
        let [a, b] = [a, b].map(|name| Vectors::read_npy(&machine.at(name)).unwrap());
        assert_eq!(a.len(), b.len());
        let off = a.values().iter().zip(b.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-5, "off by {off:e}");
    }
    // Layers in sixteen bits: nearly the same directions.
    machine.run("cuda", &["-q", "embed", "corpus", "--model", "run", "--precision", "float16", "--out", "rounded.npy"]);
    let [exact, rounded] = ["cpu.npy", "rounded.npy"].map(|name| Vectors::read_npy(&machine.at(name)).unwrap());
    let cosines = exact.rows().zip(rounded.rows()).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>());
    let least = cosines.fold(1.0, f32::min);
    assert!(least > 0.999 && exact.values() != rounded.values(), "{least}");
}

/// Embeddings differ by 1e-7. That moves most figures as little, but those that rank pixels, which
/// have many near-ties, by up to 2e-3.
#[test]
fn figures_of_an_evaluation_on_a_gpu_are_those_on_a_cpu() {
    let machine = Machine::new();
    machine.pretrain("cuda", "run", &[]);
    let all = ["-q", "--json", "eval", "all", "--corpus", "corpus", "--model", "run", "--replicates", "2"];
    let [cpu, gpu] = ["cpu", "cuda"].map(|device| {
        let result: Value = serde_json::from_str(&machine.run(device, &all)).unwrap();
        let tasks = result["corpora"][0]["tasks"].as_array().unwrap();
        let figures = tasks.iter().flat_map(|task| task["figures"].as_array().unwrap());
        figures.cloned().collect::<Vec<Value>>()
    });
    assert_eq!(cpu.len(), gpu.len());
    assert!(!cpu.is_empty());
    for (a, b) in cpu.iter().zip(&gpu) {
        assert_eq!((&a["group"], &a["name"]), (&b["group"], &b["name"]));
        let off = match (a["value"].as_f64(), b["value"].as_f64()) {
            (Some(a), Some(b)) => (a - b).abs(),
            // A figure that the few studies leave undefined.
            (a, b) => f64::from(u8::from(a != b)),
        };
        // Heat maps are enlarged from patches, so that their largest values are plateaus, whose
        // ties rounding breaks: the share of one of the eight boxes moves by up to a tenth.
        let allowed = if a["name"] == "hottest pixel inside" { 0.1 / 8.0 + 0.01 } else { 0.01 };
        assert!(off < allowed, "{a}\n{b}");
    }
}

/// While the host waits for the device it sends nothing, so the device is idle afterwards. A step
/// waits for its losses and for the length of the gradient.
#[test]
fn a_step_seldom_waits_for_the_device() {
    let machine = Machine::new();
    let waits = |steps: &str, output: &str| -> u64 {
        let settings = [steps, "train.validate_every=100"];
        machine.pretrain("cuda", output, &settings);
        let ledger: Value = serde_json::from_slice(&fs::read(machine.at("ledger.json")).unwrap()).unwrap();
        ledger["waits"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
    };
    let (two, six) = (waits("train.max_steps=2", "two"), waits("train.max_steps=6", "six"));
    assert_eq!(six - two, 4 * 2, "waits of four steps");
}
