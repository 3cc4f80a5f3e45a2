//! Wrong bytes, two writers, foreign files, files that shrink: through the real binary.

mod command;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command::{SMALL, medst, repository, run, tiny, with};
use serde_json::Value;

/// A cohort, its corpus, a run of two steps and an index with a graph.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "cohort", "--subjects", "24", "--size", "96"], 0);
    run(at, &["-q", "prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "64"], 0);
    run(at, &train(&["train.max_steps=2"], &[]), 0);
    let index = ["-q", "search", "index", "corpus", "--model", "run", "--out", "index", "--graph", "always"];
    run(at, &index, 0);
    folder
}

fn train<'a>(settings: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    // Leaked: a few names for the life of a test.
    let config: &'static str = Box::leak(tiny().into_boxed_str());
    let settings = [SMALL, &["data.corpus=corpus", "train.output=run"], settings].concat();
    [with(&["-q", "pretrain", config], &settings), more.to_vec()].concat()
}

/// All files below a folder, links left out, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !path.is_symlink());
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Numbers that are the same in every run of the test (Steele and others, SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % limit as u64) as usize
    }
}

/// Turns one bit of a file around.
fn flip(path: &Path, random: &mut Random) {
    let mut bytes = fs::read(path).unwrap();
    let offset = random.below(bytes.len());
    bytes[offset] ^= 1 << random.below(8);
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_flipped_bit_is_found_and_named() {
    let folder = prepared();
    let at = folder.path();
    for whole in ["corpus", "run", "run/last", "run/last/model.safetensors", "index"] {
        let (out, _) = run(at, &["-q", "verify", whole], 0);
        assert!(out.contains("files are intact"), "{out}");
    }
    let last = fs::canonicalize(at.join("run/last")).unwrap();
    let kinds: [(&str, &str, Vec<PathBuf>); 5] = [
        ("shards", "corpus", vec![at.join("corpus/images-00000.npy")]),
        ("weights", "run", vec![last.join("model.safetensors")]),
        ("optimiser state", "run", vec![last.join("optimizer.safetensors")]),
        ("vectors", "index", vec![at.join("index/images.npy"), at.join("index/reports.npy")]),
        (
            "tables, manifests and lists",
            "",
            [files(&at.join("corpus")), files(&at.join("index")), files(&last)]
                .concat()
                .into_iter()
                .filter(|path| {
                    !path.to_str().unwrap().contains("images-")
                        && path.extension().is_none_or(|end| end != "npy" && end != "safetensors")
                })
                .collect(),
        ),
    ];
    let mut random = Random(25);
    for (kind, top, paths) in kinds {
        for flipped in 0..100 {
            let path = &paths[random.below(paths.len())];
            let whole = fs::read(path).unwrap();
            flip(path, &mut random);
            // Library calls: a hundred processes of each kind would take minutes.
            let top = if top.is_empty() { path.parent().unwrap().to_path_buf() } else { at.join(top) };
            let found = medst_train::verify::verify(&top, &medst_data::progress::Silent).unwrap();
            assert!(!found.faults.is_empty(), "{kind}, flip {flipped}: {} is not found", path.display());
            let list = path.ends_with("SHA256SUMS");
            let named = found.faults.iter().any(|fault| {
                fs::canonicalize(&fault.path).is_ok_and(|named_path| named_path == fs::canonicalize(path).unwrap())
            });
            assert!(named || list, "{kind}: {:?}", found.faults);
            fs::write(path, whole).unwrap();
        }
    }
    // The command names the files, and its exit code reports that there are faults.
    fs::remove_file(at.join("corpus/splits.csv")).unwrap();
    flip(&at.join("corpus/studies.parquet"), &mut random);
    let (out, err) = run(at, &["-q", "verify", "corpus"], 1);
    assert!(out.contains("splits.csv: missing") && out.contains("studies.parquet: damaged"), "{out}");
    assert!(err.contains("2 damaged or missing files"), "{err}");
    let (out, _) = run(at, &["-q", "--json", "verify", "corpus"], 1);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["faults"].as_array().unwrap().len(), 2);
}

/// Damaged files are refused where they are used, before anything is made from them.
#[test]
fn damaged_files_are_refused_in_use_and_on_resume() {
    let folder = prepared();
    let at = folder.path();
    let mut random = Random(7);
    let resume = train(&["train.max_steps=2"], &["--resume"]);
    run(at, &resume, 0);
    let embed = ["-q", "embed", "corpus", "--model", "run", "--out", "e.npy"];
    let find = ["-q", "search", "find", "index", "--study", "p00000-v1"];
    let refused: [(&str, &[&str]); 7] = [
        ("run/last/model.safetensors", &embed),
        ("run/last/config.json", &embed),
        ("corpus/studies.parquet", &embed),
        ("corpus/images-00000.npy", &embed),
        ("index/images.npy", &find),
        ("run/last/optimizer.safetensors", &resume),
        ("corpus/splits.csv", &resume),
    ];
    for (file, arguments) in refused {
        let path = at.join(file);
        let whole = fs::read(&path).unwrap();
        flip(&path, &mut random);
        let (_, err) = run(at, arguments, 1);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(err.contains(name) && err.contains("SHA-256 is not the recorded one"), "{file}: {err}");
        fs::write(&path, whole).unwrap();
        assert!(!at.join("e.npy").exists());
    }
    run(at, &resume, 0);
    run(at, &find, 0);
}

/// Copies of the shipped model's folder have checksums, as folders have that `convert` writes.
#[test]
fn a_damaged_copy_of_the_shipped_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("copy")).unwrap();
    for path in files(&repository().join("models/phantom")) {
        fs::copy(&path, at.join("copy").join(path.file_name().unwrap())).unwrap();
    }
    let (out, _) = run(at, &["-q", "verify", "copy"], 0);
    assert!(out.contains("copy: 3 files are intact"), "{out}");
    let weights = at.join("copy/model.safetensors");
    let sum = |path: &Path| medst_data::files::sha256_of_file(path).unwrap();
    let expected = sum(&weights);
    flip(&weights, &mut Random(5));
    fs::write(at.join("report.txt"), "FINDINGS: There is edema. IMPRESSION: Edema.").unwrap();
    for arguments in [
        &["-q", "embed", "report.txt", "--model", "copy", "--out", "e.npy"][..],
        &["-q", "convert", "copy", "--out", "converted"],
    ] {
        let (_, err) = run(at, arguments, 1);
        assert!(err.contains("copy/model.safetensors: damaged"), "{err}");
        assert!(err.contains(&format!("found {}, expected {expected}", sum(&weights))), "{err}");
    }
    assert!(!at.join("e.npy").exists() && !at.join("converted").exists());
}

/// A program whose file was damaged where the shipped model is does not compute with it.
#[test]
fn a_damaged_model_in_the_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (out, _) = run(at, &["-q", "verify", "phantom"], 0);
    assert!(out.contains("phantom: 2 files are intact"), "{out}");
    let weights = fs::read(repository().join("models/phantom/model.safetensors")).unwrap();
    let part = &weights[weights.len() / 2..][..50_000];
    let mut program = fs::read(env!("CARGO_BIN_EXE_medst")).unwrap();
    let start = program.windows(part.len()).position(|window| window == part).unwrap();
    program[start..][..part.len()].fill(0);
    fs::write(at.join("damaged"), program).unwrap();
    // By another program: a file that a process of this test may still have open for writing cannot
    // be run.
    let install = ["-m", "755", "damaged", "medst"];
    assert!(Command::new("install").args(install).current_dir(at).status().unwrap().success());
    fs::write(at.join("report.txt"), "FINDINGS: There is edema. IMPRESSION: Edema.").unwrap();
    let expected = medst_data::files::sha256_of(&weights);
    for arguments in [
        &["-q", "embed", "report.txt", "--model", "phantom", "--out", "e.npy"][..],
        &["-q", "convert", "phantom", "--out", "converted"],
        &["-q", "inspect", "phantom"],
        &["-q", "verify", "phantom"],
    ] {
        let output = Command::new(at.join("medst")).args(arguments).current_dir(at).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("phantom: the built-in model is damaged: its model.safetensors"), "{said}");
        assert!(said.contains(&format!("expected {expected}")), "{said}");
    }
    assert!(!at.join("e.npy").exists() && !at.join("converted").exists());
}

/// A large file is read for its checksum once, and again as soon as it has been written to.
#[test]
fn large_files_are_remembered_until_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "cohort", "--subjects", "24", "--size", "96"], 0);
    run(at, &["-q", "prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "192"], 0);
    let shard = at.join("corpus/images-00000.npy");
    assert!(fs::metadata(&shard).unwrap().len() > 1 << 20);
    let embed = |code: i32| {
        let arguments = ["-q", "embed", "corpus", "--model", "phantom", "--out", "e.npy"];
        let output = medst(at).args(arguments).env("MEDST_CACHE", at.join("cache")).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{err}");
        err
    };
    // Files that changed a moment ago are not remembered.
    std::thread::sleep(Duration::from_millis(3100));
    embed(0);
    let notes = files(&at.join("cache/checked"));
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let (before, text) = (written(note), fs::read_to_string(note).unwrap());
    embed(0);
    assert_eq!((written(note), fs::read_to_string(note).unwrap()), (before, text));
    // A stored note is trusted until the file is written to; then it no longer applies.
    flip(&shard, &mut Random(3));
    File::options().write(true).open(&shard).unwrap().set_modified(before).unwrap();
    let err = embed(1);
    assert!(err.contains("images-00000.npy") && err.contains("SHA-256 is not the recorded one"), "{err}");
}

/// Folders of earlier versions have no checksum lists: they can be used, and `medst verify` reports
/// that they have none.
#[test]
fn folders_without_checksums_are_read_and_said_to_have_none() {
    let folder = prepared();
    let at = folder.path();
    for list in ["corpus", "run", "run/last", "index"] {
        fs::remove_file(at.join(list).join("SHA256SUMS")).unwrap();
    }
    // A corpus always had them in its manifest.
    run(at, &["-q", "verify", "corpus"], 0);
    for path in ["run", "index", "run/last/model.safetensors"] {
        let (out, err) = run(at, &["-q", "verify", path], 1);
        assert!(
            out.contains("no checksums recorded") && err.contains("no checksums are recorded"),
            "{path}: {out}{err}"
        );
    }
    let mut resume = train(&["train.max_steps=2"], &["--resume"]);
    resume.retain(|word| *word != "-q");
    let (_, err) = run(at, &resume, 0);
    assert!(err.contains("has no checksums"), "{err}");
    run(at, &["-q", "embed", "corpus", "--model", "run", "--out", "e.npy"], 0);
    run(at, &["-q", "search", "find", "index", "--study", "p00000-v1"], 0);
    run(at, &["-q", "search", "index", "corpus", "--model", "run", "--out", "index", "--overwrite"], 0);
    run(at, &["-q", "verify", "index"], 0);
    run(at, &["-q", "prepare", "table", "cohort/studies.csv", "--out", "corpus", "--overwrite"], 0);
}

/// A training that ends with its test, however that ends.
struct Training(Child);

impl Drop for Training {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Training {
    /// Starts it and waits for its first step.
    fn start(at: &Path, settings: &[&str]) -> Training {
        let training = Command::new(env!("CARGO_BIN_EXE_medst"))
            .args(train(&[&["train.output=long"], settings].concat(), &[]))
            .current_dir(at)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut training = Training(training);
        let begun = || fs::read_to_string(at.join("long/metrics.jsonl")).is_ok_and(|text| text.lines().count() > 0);
        let start = Instant::now();
        while !begun() && start.elapsed() < Duration::from_secs(600) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(begun() && training.0.try_wait().unwrap().is_none(), "training did not begin, or ended");
        training
    }
}

#[test]
fn a_second_training_in_one_folder_is_refused_at_once() {
    let folder = prepared();
    let at = folder.path();
    let settings = ["train.epochs=200", "train.output=long"];
    let mut training = Training::start(at, &settings);
    let id = training.0.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &id]).status().unwrap().success();
    // Paused, so that it cannot end in the meantime.
    assert!(signal("-STOP"));
    let resumed = medst(at).args(train(&settings, &["--resume"])).output().unwrap();
    let fresh = medst(at).args(train(&settings, &[])).output().unwrap();
    assert!(signal("-CONT") && signal("-KILL"));
    let err = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert_eq!(resumed.status.code(), Some(2), "{err}");
    assert!(err.contains("is being written by another program: process ") && err.contains(&id), "{err}");
    let err = String::from_utf8_lossy(&fresh.stderr).into_owned();
    assert_eq!(fresh.status.code(), Some(2), "{err}");
    assert!(err.contains("it already contains a run"), "{err}");
    training.0.wait().unwrap();
    // The lock ended with its holder.
    let settings = [&settings[..], &["train.max_steps=1"]].concat();
    let (_, err) = run(at, &train(&settings, &["--resume"]), 2);
    assert!(err.contains("a resumed run must keep its configuration"), "{err}");
}

/// Notes that users put into medst's folders are kept: no folder is replaced until they are moved
/// away, and training, which continues in its folder, leaves them there.
#[test]
fn files_of_others_are_never_taken_along() {
    let folder = prepared();
    let at = folder.path();
    run(at, &["-q", "convert", "run", "--out", "model"], 0);
    let commands: [(&str, &[&str]); 3] = [
        (
            "corpus",
            &["-q", "prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "64", "--overwrite"],
        ),
        ("index", &["-q", "search", "index", "corpus", "--model", "run", "--out", "index", "--overwrite"]),
        ("model", &["-q", "convert", "run", "--out", "model", "--overwrite"]),
    ];
    for (out, command) in commands {
        let notes = at.join(out).join("notes of the radiologist.txt");
        fs::write(&notes, "mine").unwrap();
        let before = files(&at.join(out));
        let (_, err) = run(at, command, 2);
        assert!(err.contains("notes of the radiologist.txt") && err.contains("did not write"), "{err}");
        assert_eq!(files(&at.join(out)), before);
        fs::rename(&notes, at.join("moved.txt")).unwrap();
        run(at, command, 0);
        run(at, &["-q", "verify", out], 0);
    }
    let (note, kept) = (at.join("run/last/notes.txt"), at.join("run/checkpoints/keep/notes.txt"));
    fs::create_dir(at.join("run/checkpoints/keep")).unwrap();
    for path in [&note, &kept] {
        fs::write(path, "mine").unwrap();
    }
    let note = fs::canonicalize(note).unwrap();
    run(at, &train(&["train.max_steps=2"], &["--resume"]), 0);
    assert!(note.exists() && kept.exists());
    let left: Vec<PathBuf> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.file_name().unwrap().to_str().unwrap().starts_with(".medst-")), "{left:?}");
}

/// The state that a crash between the two renames of a replacement leaves (on file systems that
/// cannot exchange two folders in one step): the old folder under its other name, nothing in its
/// place.
#[test]
fn a_crash_between_renames_loses_nothing() {
    let folder = prepared();
    let at = folder.path();
    let away = |name: &str| {
        let path = fs::canonicalize(at.join(name)).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        fs::rename(&path, path.with_file_name(format!(".medst-replaced-{name}"))).unwrap();
        path
    };
    let before = fs::read(at.join("run/last/model.safetensors")).unwrap();
    let checkpoint = away("run/last");
    run(at, &train(&["train.max_steps=2"], &["--resume"]), 0);
    assert!(fs::read(checkpoint.join("model.safetensors")).unwrap() == before);
    for (out, command) in [
        ("corpus", &["-q", "prepare", "table", "cohort/studies.csv", "--out", "corpus"][..]),
        ("index", &["-q", "search", "index", "cohort/studies.csv", "--model", "run", "--out", "index"]),
    ] {
        away(out);
        // The old one is there again, so it is not replaced unasked.
        let (_, err) = run(at, command, 2);
        assert!(err.contains("--overwrite"), "{err}");
        run(at, &["-q", "verify", out], 0);
        // Killed after the second rename: the old folder is still there and goes.
        let left = at.join(format!(".medst-replaced-{out}"));
        fs::create_dir(&left).unwrap();
        for path in files(&at.join(out)) {
            fs::copy(&path, left.join(path.file_name().unwrap())).unwrap();
        }
        run(at, &[command, &["--overwrite"]].concat(), 0);
        assert!(!left.exists());
        run(at, &["-q", "verify", out], 0);
    }
}

/// A file that another program cuts short while it is open is an error with its name, not the end
/// by SIGBUS.
#[test]
fn files_that_shrink_while_they_are_open_are_errors() {
    let folder = prepared();
    let at = folder.path();
    let corpus = medst_data::corpus::Corpus::open(&at.join("corpus")).unwrap();
    let picture = corpus.studies()[0].frontal;
    corpus.image(picture).unwrap();
    File::options().write(true).open(at.join("corpus/images-00000.npy")).unwrap().set_len(4096).unwrap();
    let last = corpus.studies().last().unwrap().frontal;
    let error = corpus.image(last).unwrap_err().to_string();
    assert!(error.contains("images-00000.npy") && error.contains("cut short while it was in use"), "{error}");

    // In a training: the file shrinks between two steps.
    run(at, &["-q", "prepare", "table", "cohort/studies.csv", "--out", "other", "--image-size", "64"], 0);
    let settings = ["train.epochs=500", "train.output=long", "data.corpus=other"];
    let mut training = Training::start(at, &settings);
    File::options().write(true).open(at.join("other/images-00000.npy")).unwrap().set_len(4096).unwrap();
    let mut err = String::new();
    std::io::Read::read_to_string(training.0.stderr.as_mut().unwrap(), &mut err).unwrap();
    assert_eq!(training.0.wait().unwrap().code(), Some(1), "{err}");
    assert!(err.contains("images-00000.npy") && err.contains("cut short"), "{err}");
}

/// Weights with NaN or infinity, with and without checksums that fit them.
#[test]
fn weights_that_are_not_finite_are_refused() {
    let folder = prepared();
    let at = folder.path();
    let model = at.join("model");
    fs::create_dir(&model).unwrap();
    for name in ["model.safetensors", "config.json"] {
        fs::copy(at.join("run/last").join(name), model.join(name)).unwrap();
    }
    let weights = model.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = whole.clone();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
        fs::write(&weights, bytes).unwrap();
        let commands = [
            &["-q", "embed", "corpus", "--model", "model", "--out", "e.npy"][..],
            &["-q", "search", "index", "corpus", "--model", "model", "--out", "nan"],
            &["-q", "zero-shot", "cohort/images/p00000/p00000-v1_frontal.png", "--model", "model", "--class", "edema"],
            &["-q", "eval", "retrieval", "--corpus", "corpus", "--model", "model", "--replicates", "2"],
            &["-q", "convert", "model", "--out", "converted"],
        ];
        // One way to open a model serves all; the others are tried once.
        let tried = if value.is_nan() { commands.len() } else { 1 };
        for command in &commands[..tried] {
            let (out, err) = run(at, command, 1);
            assert!(err.contains("model.safetensors") && err.contains("not finite"), "{command:?}: {err}");
            assert!(!out.contains("NaN") && !out.contains("inf"), "{out}");
        }
    }
    fs::write(&weights, [&whole[..whole.len() - 4], &f32::NAN.to_le_bytes()].concat()).unwrap();
    let (_, err) = run(at, &train(&["train.output=from-nan", "init.weights=model"], &[]), 1);
    assert!(err.contains("not finite"), "{err}");
    assert!(!["e.npy", "nan", "converted", "from-nan"].iter().any(|name| at.join(name).exists()));
    // Finite values whose results are not: an exponent that a flip made huge, in a folder without
    // checksums.
    let mut bytes = whole;
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for value in bytes[start..].as_chunks_mut::<4>().0 {
        *value = (f32::from_le_bytes(*value) * 1e37).clamp(-3e38, 3e38).to_le_bytes();
    }
    fs::write(&weights, bytes).unwrap();
    let (out, err) = run(at, &["-q", "search", "index", "corpus", "--model", "model", "--out", "nan"], 1);
    assert!(err.contains("not finite") && !out.contains("NaN"), "{out}{err}");
    let (out, err) = run(
        at,
        &["-q", "zero-shot", "cohort/images/p00000/p00000-v1_frontal.png", "--model", "model", "--class", "edema"],
        1,
    );
    assert!(err.contains("not finite") && !out.contains("NaN"), "{out}{err}");
    assert!(!at.join("nan").exists());
}
