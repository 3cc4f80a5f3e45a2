//! The way through the program on a GPU, without one: `pretended_cuda.cpp` takes the place of `libtorch_cuda.so`, and everything must come out as on the
//! CPU. What only a GPU can show, its speed and its rounding, `make bench-gpu` measures.

#[path = "../command/mod.rs"]
mod command;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use command::{SMALL, difference, repository, tiny, with};
use medst::eval::Vectors;
use serde_json::Value;
use tch::{Kind, Tensor};

/// A folder with the pretended libraries, built once for all tests.
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

    /// Runs the command on a device; returns what the GPU did.
    fn run(&self, device: &str, arguments: &[&str]) -> Vec<Value> {
        let (output, ledger) = self.try_on(device, arguments, &[("MEDST_GPU_KERNELS", "0")]);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        ledger
    }

    /// Whatever comes of it; also what the GPU did.
    fn try_on(&self, device: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (Output, Vec<Value>) {
        let ledger = self.at("ledger.jsonl");
        let _ = fs::remove_file(&ledger);
        let output = command::medst(self.folder.path())
            .env("LD_LIBRARY_PATH", self.library)
            .env("MEDST_PRETENDED_GPU", &ledger)
            .envs(environment.iter().copied())
            .args([arguments, &["--device", device]].concat())
            .output()
            .unwrap();
        let text = fs::read_to_string(&ledger).unwrap_or_default();
        assert_eq!(text.is_empty(), device == "cpu", "{arguments:?} on {device}");
        (output, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn pretrain(&self, device: &str, output: &str, settings: &[&str]) -> Vec<Value> {
        self.pretrain_with(device, output, settings, "0")
    }

    /// * `kernels`: 1 for those of our own.
    fn pretrain_with(&self, device: &str, output: &str, settings: &[&str], kernels: &str) -> Vec<Value> {
        let (result, ledger) = self.try_to_pretrain(device, output, settings, &[("MEDST_GPU_KERNELS", kernels)]);
        assert!(result.status.success(), "{output}: {}", String::from_utf8_lossy(&result.stderr));
        ledger
    }

    fn try_to_pretrain(
        &self,
        device: &str,
        output: &str,
        settings: &[&str],
        environment: &[(&str, &str)],
    ) -> (Output, Vec<Value>) {
        let target = format!("train.output={output}");
        let usual = ["data.corpus=corpus", &target];
        let (configuration, settings) = (tiny(), [SMALL, EXACT, &usual, settings].concat());
        let arguments = with(&["-q", "pretrain", &configuration], &settings);
        self.try_on(device, &arguments, environment)
    }

    /// The first moments after one step: a tenth of the gradient, by 128 values.
    fn gradient(&self, run: &str) -> Tensor {
        let path = self.at(run).join("last/optimizer.safetensors");
        let all = Tensor::read_safetensors(path).unwrap();
        let first = all.into_iter().find(|(name, _)| name == "exp_avg").unwrap().1.to_kind(Kind::Double);
        first.narrow(0, 0, first.size()[0] / 128 * 128).view([-1, 128])
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
const EXACT: &[&str] = &["train.precision=float64", "train.max_steps=4", "model.image.depth=2"];

#[test]
fn pre_training_on_a_gpu_is_that_on_a_cpu() {
    let machine = Machine::new();
    let variants: &[(&str, &[&str])] = &[
        ("plain", &[]),
        ("reference", &["model.semantics=reference"]),
        ("chunks", &["train.encode_studies=3"]),
        ("blocks", &["train.checkpoint_activations=true", "train.accumulate=2"]),
        (
            "teacher",
            &["loss.soft_targets=0.3", "loss.soft_target_similarity=momentum", "loss.negatives=other_subjects"],
        ),
        ("texts", &["loss.soft_targets=0.3", "loss.soft_target_similarity=text", "loss.importance=both"]),
        ("days", &["loss.global=sigmoid", "loss.temporal_times=days", "loss.importance=uniform"]),
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

/// Layers in sixteen bits: kernels of the CPU in another order of sums, so only roughly.
#[test]
fn sixteen_bits_on_a_gpu() {
    let machine = Machine::new();
    for precision in ["bfloat16", "float16"] {
        let setting = format!("train.precision={precision}");
        let [cpu, gpu] = ["cpu", "cuda"].map(|device| {
            let output = format!("{precision}-{device}");
            machine.pretrain(device, &output, &[&setting, "train.max_steps=1"]);
            machine.metrics(&output)[0]["total"].as_f64().unwrap()
        });
        assert!((cpu / gpu - 1.0).abs() < 0.02, "{precision}: {cpu}, {gpu}");
    }
}

/// A width that kernels of our own take, one step.
const WIDE: &[&str] = &["model.image.width=128", "train.max_steps=1", "loss.temporal_weight=0"];

/// Whether a kernel of our own was started.
fn ran(ledger: &[Value], name: &str) -> bool {
    ledger.iter().any(|line| line.get(name).is_some())
}

/// Kernels of our own (`ops/gpu/kernels.cu`), run on the host: the gradient is as near to float32's as with the engine's, everywhere.
#[test]
fn own_kernels_give_the_gradients_of_the_engines() {
    let machine = Machine::new();
    let gradient = |precision: &str, kernels: &str| {
        let (output, precision) = (format!("{precision}-{kernels}"), format!("train.precision={precision}"));
        let settings = [WIDE, &[&precision]].concat();
        let ledger = machine.pretrain_with("cuda", &output, &settings, kernels);
        for name in ["medst_norm", "medst_pull_norm", "medst_pull_gelu", "medst_drop"] {
            assert_eq!(ran(&ledger, name), kernels == "1" && !precision.contains("float32"), "{name}");
        }
        machine.gradient(&output)
    };
    let cosine = |a: &Tensor, b: &Tensor| Tensor::cosine_similarity(a, b, 1, 1e-30);
    let exact = gradient("float32", "0");
    let sizes = exact.norm_scalaropt_dim(2.0, [1i64], false);
    let large = sizes.gt_tensor(&(sizes.max() * 1e-4));
    for precision in ["bfloat16", "float16"] {
        let (engine, own) = (gradient(precision, "0"), gradient(precision, "1"));
        let whole = cosine(&engine.reshape([1, -1]), &own.reshape([1, -1])).double_value(&[0]);
        assert!(whole > 0.9999, "{precision}: {whole}");
        let worse = (cosine(&engine, &exact) - cosine(&own, &exact)).masked_select(&large).max().double_value(&[]);
        assert!(worse < 0.005, "{precision}: {worse}");
    }
}

/// On a card where one of them is wrong none of them is used, unless one insists.
#[test]
fn kernels_that_are_wrong_on_a_card_are_not_used() {
    let machine = Machine::new();
    let settings = [WIDE, &["train.precision=bfloat16"]].concat();
    let total = |name: &str| machine.metrics(name)[0]["total"].as_f64().unwrap();
    let (result, right) = machine.try_to_pretrain("cuda", "right", &settings, &[]);
    let said = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success() && !said.contains("warning"), "{said}");
    assert!(ran(&right, "medst_drop"));
    let losses: Vec<f64> = ["medst_norm", "medst_pull_norm", "medst_pull_gelu", "medst_drop"]
        .iter()
        .map(|idle| {
            let (result, _) = machine.try_to_pretrain("cuda", idle, &settings, &[("MEDST_PRETENDED_GPU_IDLE", idle)]);
            let said = String::from_utf8_lossy(&result.stderr);
            assert!(result.status.success() && said.contains("differs from the engine's"), "{idle}: {said}");
            total(idle)
        })
        .collect();
    machine.pretrain("cuda", "engine", &settings);
    assert!(losses.iter().all(|&loss| (loss - total("engine")).abs() < 1e-3), "{losses:?}, {}", total("engine"));
    let insisting = [("MEDST_PRETENDED_GPU_IDLE", "medst_drop"), ("MEDST_GPU_KERNELS", "1")];
    let (result, _) = machine.try_to_pretrain("cuda", "insisting", &settings, &insisting);
    let said = String::from_utf8_lossy(&result.stderr);
    assert!(!result.status.success() && said.contains("dropout differs from the engine's"), "{said}");
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
    let all = ["-q", "--json", "eval", "all", "--corpus", "corpus", "--model", "run", "--replicates", "2"];
    machine.run("cuda", &all);
}

/// Where the host waits for the device, the device then waits for the host. A step does so where it reads its losses and the length of the gradient.
#[test]
fn a_step_seldom_waits_for_the_device() {
    let machine = Machine::new();
    let waits = |steps: &str, output: &str| -> u64 {
        let settings = [steps, "train.validate_every=100"];
        let ledger = machine.pretrain("cuda", output, &settings);
        let counts = ledger.iter().flat_map(|line| line.as_object().unwrap().values());
        counts.map(|count| count["waits"].as_u64().unwrap()).sum()
    };
    let (two, six) = (waits("train.max_steps=2", "two"), waits("train.max_steps=6", "six"));
    let waits = (six - two) as f64 / 4.0;
    eprintln!("{waits} waits a step");
    assert!(waits <= 2.0, "{waits} waits a step");
}
