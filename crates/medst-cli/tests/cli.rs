//! The real binary, driven as people drive it.

mod command;

use std::fs;
use std::process::{Command as Plain, Stdio};

use command::{SMALL, medst, repository, run, tiny, with};

fn with_settings<'a>(arguments: &[&'a str], settings: &[&'a str]) -> Vec<&'a str> {
    let settings = SMALL.iter().chain(settings).flat_map(|setting| ["--set", setting]);
    arguments.iter().copied().chain(settings).collect()
}

/// A folder with a cohort and its corpus.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["phantom", "cohort", "--subjects", "24", "--size", "96"], 0);
    run(folder.path(), &["prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "64"], 0);
    folder
}

#[test]
fn the_whole_path_from_patients_to_embeddings() {
    let folder = prepared();
    let at = folder.path();
    let settings = ["data.corpus=corpus", "train.output=run", "train.epochs=2"];
    let (out, err) = run(at, &with_settings(&["pretrain", &tiny()], &settings), 0);
    for expected in ["finished", "recall@5", "chance", "run/best", "next:"] {
        assert!(out.contains(expected), "{expected} is not in\n{out}");
    }
    assert!(err.contains("training on"), "{err}");
    let embed = ["embed", "corpus", "--model", "run", "--out", "embeddings.parquet", "--split", "train"];
    assert!(run(at, &embed, 0).0.contains("32 values"));
    assert!(at.join("embeddings.parquet").exists());
    for (path, expected) in [
        ("corpus", "a corpus"),
        ("run", "a run"),
        ("run/last", "a Med-ST model after"),
        ("run/last/model.safetensors", "a Med-ST model"),
    ] {
        let (out, _) = run(at, &["inspect", path], 0);
        assert!(out.contains(expected), "{out}");
    }
    let (out, _) = run(at, &["inspect", "corpus", "--json"], 0);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["kind"], "corpus");
    let reference = repository().join("crates/medst/tests/fixtures/reference/lightning.ckpt").display().to_string();
    let (out, _) = run(at, &["inspect", &reference], 0);
    assert!(out.contains("reference implementation") && out.contains("zero positions"), "{out}");
    let (out, _) = run(at, &["--quiet", "prepare", "table", "cohort/studies.csv", "--out", "again", "--json"], 0);
    assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["counts"]["studies"].as_u64() > Some(24));
}

#[test]
fn wrong_usage_and_configuration_exit_with_2() {
    let folder = prepared();
    let at = folder.path();
    fs::write(at.join("typo.toml"), "[optimizer]\nlearning_rate = 1e-4\n").unwrap();
    fs::write(at.join("range.toml"), "[model.image]\nheads = 5\n").unwrap();
    for (arguments, expected) in [
        (vec!["pretrain"], "required"),
        (vec!["pretrian", "x.toml"], "unrecognized"),
        (vec!["pretrain", "typo.toml"], "learning_rate"),
        (vec!["pretrain", "range.toml"], "model.image.num_heads"),
        (vec!["pretrain", "range.toml", "--set", "nonsense"], "key=value"),
        (vec!["prepare", "table", "cohort/studies.csv", "--out", "corpus"], "--overwrite"),
        (vec!["prepare", "table", "cohort/studies.csv", "--out", "cohort"], "not a corpus"),
        (vec!["phantom", "cohort", "--subjects", "2"], "not empty"),
        (vec!["embed", "corpus", "--model", "run", "--out", "x", "--split", "trian"], "train, validate or test"),
    ] {
        let (_, err) = run(at, &arguments, 2);
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    assert!(run(at, &["--help"], 0).0.contains("prepare"));
    assert!(run(at, &["--version"], 0).0.starts_with("medst "));
}

#[test]
fn what_is_not_there_or_damaged_exits_with_1_and_its_name() {
    let folder = prepared();
    let at = folder.path();
    fs::write(at.join("empty.csv"), "").unwrap();
    fs::write(at.join("noise.safetensors"), [7; 100]).unwrap();
    fs::write(at.join("file"), "").unwrap();
    let config = tiny();
    let starts = ["data.corpus=corpus", "train.output=x", "init.weights=fantom"];
    let names = "fantom: no such file or folder; built-in models: `phantom`";
    for (arguments, expected) in [
        (vec!["prepare", "table", "absent.csv", "--out", "x"], "absent.csv"),
        (vec!["prepare", "table", "empty.csv", "--out", "x"], "empty.csv"),
        (vec!["prepare", "table", "cohort/studies.csv", "--out", "file/corpus"], "file/corpus"),
        (vec!["inspect", "absent"], "absent"),
        (vec!["inspect", "cohort"], "not a corpus"),
        (vec!["inspect", "noise.safetensors"], "noise.safetensors"),
        (vec!["embed", "cohort", "--model", "cohort", "--out", "x"], "not a run or checkpoint"),
        (vec!["embed", "corpus", "--model", "corpus", "--out", "x"], "model.safetensors"),
        (vec!["pretrain", &config, "--set", "data.corpus=nowhere"], "nowhere"),
        // Whatever takes a model answers a wrong name with those that there are.
        (vec!["embed", "cohort", "--model", "fantom", "--out", "x"], names),
        (vec!["inspect", "fantom"], names),
        (vec!["card", "fantom"], names),
        (vec!["verify", "fantom"], names),
        (vec!["convert", "fantom", "--out", "x"], names),
        (vec!["convert", "image=fantom", "--out", "x"], names),
        (with_settings(&["pretrain", &config], &starts), names),
    ] {
        let (_, err) = run(at, &arguments, 1);
        assert!(err.contains(expected), "{arguments:?}: {err}");
        assert!(!err.contains("panicked"), "{err}");
    }
    assert!(!at.join("x").exists(), "a failed command leaves nothing at its target");
}

#[test]
fn checkpoints_of_another_shape_are_refused_by_tensor() {
    let folder = prepared();
    let at = folder.path();
    let settings = ["data.corpus=corpus", "train.output=run", "train.max_steps=1"];
    run(at, &with_settings(&["pretrain", &tiny()], &settings), 0);
    let settings = [
        "data.corpus=corpus",
        "train.output=other",
        "init.weights=run/last/model.safetensors",
        "model.projection.embedding=40",
    ];
    let (_, err) = run(at, &with_settings(&["pretrain", &tiny()], &settings), 1);
    assert!(err.contains("image_global.contract.weight") && err.contains("[40, 48]"), "{err}");
    // A model file that was cut off is not taken for a whole one.
    let model = at.join("run/last/model.safetensors");
    let whole = fs::read(&model).unwrap();
    fs::write(&model, &whole[..whole.len() - 7]).unwrap();
    let (_, err) = run(at, &["embed", "corpus", "--model", "run/last", "--out", "x.parquet"], 1);
    assert!(err.contains("model.safetensors"), "{err}");
    assert!(!at.join("x.parquet").exists());
}

/// Stopped by Ctrl-C, then by a scheduler, in the middle of a run: it ends cleanly each time, and
/// `--resume` goes on to the end.
#[test]
fn an_interrupted_run_leaves_a_checkpoint_and_goes_on() {
    let folder = prepared();
    let at = folder.path();
    let config = tiny();
    let settings = ["data.corpus=corpus", "train.output=run", "train.epochs=20"];
    let mut arguments = with_settings(&["pretrain", &config], &settings);
    let metrics = at.join("run/metrics.jsonl");
    let mut steps = 0;
    for signal in ["-INT", "-TERM"] {
        let mut child = Plain::new(env!("CARGO_BIN_EXE_medst"))
            .args(&arguments)
            .current_dir(at)
            .stderr(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = || fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() > steps + 3);
        for _ in 0..600 {
            if begun() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(begun(), "training did not begin");
        let killed = Plain::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut out = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(out.contains("stopped; continue with --resume"), "{out}");
        assert!(at.join("run/last/state.json").exists());
        steps = fs::read_to_string(&metrics).unwrap().lines().count();
        if signal == "-INT" {
            arguments.push("--resume");
        }
    }
    let (out, _) = run(at, &arguments, 0);
    assert!(out.contains("finished"), "{out}");
}

/// `medst … | head`: the reader closes the pipe early, which is not an error.
#[test]
fn a_reader_that_went_away_is_no_error() {
    let folder = prepared();
    for arguments in [&["inspect", "corpus"][..], &["--json", "inspect", "corpus"]] {
        let mut child = Plain::new(env!("CARGO_BIN_EXE_medst"))
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// On a full file system, each command reports the error and leaves nothing that could pass for a
/// complete result. Needs permission to mount.
#[test]
fn a_full_disk_is_a_clear_error() {
    let folder = prepared();
    let at = folder.path();
    let small = at.join("small");
    fs::create_dir(&small).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
    let mounted = Plain::new("mount").args(mount).arg(&small).stderr(Stdio::null()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: mounting a small file system is not allowed here");
        return;
    }
    let prepare = ["prepare", "table", "cohort/studies.csv", "--out", "small/corpus"];
    let prepare = medst(at).args(prepare).output().unwrap();
    let corpus = small.join("corpus").exists();
    let _ = fs::remove_dir_all(small.join("corpus.partial"));
    let config = tiny();
    let settings = ["data.corpus=corpus", "train.output=small/run", "train.max_steps=1"];
    let train = medst(at).args(with_settings(&["pretrain", &config], &settings)).output().unwrap();
    let checkpoint = small.join("run/last").exists();
    let _ = fs::remove_dir_all(small.join("run"));
    let config = repository().join("configs/finetune.toml").display().to_string();
    let settings = ["data.corpus=corpus", "train.output=small/tuned", "train.epochs=1"];
    let tune = medst(at).args(with(&["finetune", &config], &settings)).output().unwrap();
    let tuned = small.join("tuned/last").exists();
    let _ = fs::remove_dir_all(small.join("tuned"));
    let names = || fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let before = names();
    let convert = ["convert", "phantom", "--to", "onnx", "--out", "small/graphs"];
    let convert = medst(at).args(convert).output().unwrap();
    let after = names();
    assert!(Plain::new("umount").arg(&small).status().unwrap().success());
    assert_eq!(before, after, "a conversion that fails leaves nothing");
    for output in [prepare, train, tune, convert] {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("No space left") && err.contains("small/"), "{err}");
    }
    assert!(!corpus && !checkpoint && !tuned);
}
