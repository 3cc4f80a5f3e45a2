//! What `docs/cluster.md` shows, taken from there: scripts and a manifest that can be pasted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_yaml_ng::Value as Yaml;

use crate::command::{SMALL, repository, tiny};
use crate::{EXACT, corpus, launcher, lines};

/// The code of a language in the document, in order.
fn blocks(language: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join("docs/cluster.md")).unwrap();
    let mut parts = text.split("\n```");
    parts.next();
    // Beginnings and ends in turn.
    let inside = parts.step_by(2).filter_map(|part| part.strip_prefix(&format!("{language}\n")));
    inside.map(|code| format!("{code}\n")).collect()
}

/// The script whose second line begins with a name.
fn script(name: &str) -> String {
    let all = blocks("sh");
    all.into_iter().find(|code| code.lines().nth(1).is_some_and(|line| line.starts_with(&format!("# {name}")))).unwrap()
}

fn write_script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn assert_bash(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = write_script(folder.path(), "script", text);
    let output = Command::new("bash").arg("-n").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn scripts_are_bash_and_the_manifest_hangs_together() {
    let scripts = blocks("sh");
    assert_eq!(scripts.len(), 2);
    scripts.iter().for_each(|text| assert_bash(text));

    let manifest: Yaml = serde_yaml_ng::from_str(&blocks("yaml").remove(0)).unwrap();
    assert_eq!(manifest["apiVersion"].as_str(), Some("kubeflow.org/v2beta1"));
    assert_eq!(manifest["kind"].as_str(), Some("MPIJob"));
    let spec = &manifest["spec"];
    let (launcher, worker) = (&spec["mpiReplicaSpecs"]["Launcher"], &spec["mpiReplicaSpecs"]["Worker"]);
    let number = |value: &Yaml| value.as_i64().unwrap();
    let processes = number(&spec["slotsPerWorker"]) * number(&worker["replicas"]);
    let container = |replica: &Yaml| replica["template"]["spec"]["containers"][0].clone();
    let text = container(launcher)["args"][0].as_str().unwrap().to_string();
    assert!(text.contains(&format!("mpirun -n {processes} ")), "{text}");
    assert_bash(&text);
    let gpus = number(&container(worker)["resources"]["limits"]["nvidia.com/gpu"]);
    assert_eq!(gpus, number(&spec["slotsPerWorker"]), "one process per GPU");
    for replica in [launcher, worker] {
        let volumes = &replica["template"]["spec"]["volumes"];
        let names: Vec<_> =
            volumes.as_sequence().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        let mounts = container(replica)["volumeMounts"].clone();
        let mounts = mounts.as_sequence().unwrap();
        assert!(mounts.iter().all(|mount| names.contains(&mount["name"].as_str().unwrap())));
        // Both see the run's folder.
        assert!(mounts.iter().any(|mount| mount["mountPath"].as_str() == Some("/data")));
    }
    // The ssh that the image sets up is the one that the manifest starts.
    let image = blocks("dockerfile").remove(0);
    let keys = spec["sshAuthMountPath"].as_str().unwrap();
    assert!(image.contains(&format!("{keys}/authorized_keys")));
    let file = container(worker)["args"][2].as_str().unwrap().to_string();
    assert!(image.contains(&format!("> {file}")));
}

/// SIGTERM, as from a scheduler that wants the machine: a checkpoint, 130, and the same command
/// goes on.
#[test]
fn the_script_of_one_machine_stops_on_request_and_goes_on() {
    if !launcher() {
        return;
    }
    let folder = corpus();
    let at = folder.path();
    let path = write_script(at, "pretrain.sh", &script("pretrain.sh"));
    let medst = Path::new(env!("CARGO_BIN_EXE_medst")).parent().unwrap();
    let search = format!("{}:{}", medst.display(), std::env::var("PATH").unwrap());
    // More than are done before it is stopped, few enough to wait for.
    let more = ["train.sequences_per_batch=7", "train.epochs=200", "train.max_steps=24", "train.validate_every=1000"];
    let settings = [SMALL, EXACT, &more].concat().iter().map(|setting| format!("--set {setting}")).collect::<Vec<_>>();
    let start = || {
        let mut command = Command::new(&path);
        command.current_dir(at).env("PATH", &search).envs([("PROCESSES", "2"), ("DEVICE", "cpu"), ("RUN", "run")]);
        command.env("CONFIG", tiny()).env("SETTINGS", settings.join(" ")).env("OMP_NUM_THREADS", "1");
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
        // More processes than cores may be what this machine has.
        command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let child = start();
    let begun = Instant::now();
    while lines(&at.join("run"), "train").len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no steps");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let done = lines(&at.join("run"), "train").len();
    assert!(done < 24, "it was not stopped");
    assert!(at.join("run/last/model.safetensors").exists(), "no checkpoint\n{said}");

    let output = start().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps: Vec<u64> = lines(&at.join("run"), "train").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=24).collect::<Vec<u64>>());
}

/// With fakes of SLURM's commands: what the script does for each way in which a job can end.
#[test]
fn the_slurm_script_requeues_what_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir_all(at.join("corpus")).unwrap();
    fs::create_dir(at.join("bin")).unwrap();
    // The first call of srun copies the corpus and is executed; the second exits with `$CODE`.
    let srun =
        "#!/bin/bash\necho \"srun $*\" >> said\ncase \"$*\" in *medst*) exit $CODE;; *) shift 2; exec \"$@\";; esac\n";
    write_script(&at.join("bin"), "srun", srun);
    write_script(&at.join("bin"), "scontrol", "#!/bin/bash\necho \"scontrol $*\" >> said\n");
    let text = script("pretrain.sbatch").replace("/shared", &at.display().to_string());
    let path = write_script(at, "pretrain.sbatch", &text);
    let run = |code: i32, restarts: &str| {
        let _ = fs::remove_file(at.join("said"));
        let mut command = Command::new(&path);
        let search = format!("{}:{}", at.join("bin").display(), std::env::var("PATH").unwrap());
        command.current_dir(at).env("PATH", search).env("CODE", code.to_string()).env("SLURM_RESTART_COUNT", restarts);
        command.envs([("SLURM_JOB_ID", "7"), ("SLURM_NNODES", "4"), ("SLURM_CPUS_PER_TASK", "3")]);
        command.env("SLURM_TMPDIR", at.join("fast"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(at.join("said")).unwrap()
    };
    let requeued = |said: &str| said.contains("scontrol requeue 7");
    let first = run(130, "0");
    assert!(requeued(&first) && !first.contains("--resume"), "{first}");
    assert!(at.join("fast/corpus").is_dir());
    fs::create_dir_all(at.join("runs/pretrain")).unwrap();
    fs::write(at.join("runs/pretrain/config.toml"), "").unwrap();
    let second = run(0, "1");
    assert!(!requeued(&second) && second.contains("--resume"), "{second}");
    assert!(requeued(&run(1, "1")));
    assert!(!requeued(&run(2, "1")), "a wrong configuration stays wrong");
    assert!(!requeued(&run(1, "10")), "ten times at most");
}
