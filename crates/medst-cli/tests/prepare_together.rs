//! `mpirun -n N medst prepare`: the corpus of one process, to the byte; and what other commands say
//! of several processes.
//!
//! Built with the feature `mpi` only. Where there is no `mpirun` these tests skip, saying so,
//! unless `MEDST_NEED_MPI` is set.
#![cfg(feature = "mpi")]

mod command;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use command::processes::{finish, launcher, start};
use command::{SMALL, run, tiny, with};

fn done(at: &Path, processes: usize, arguments: &[&str]) -> String {
    let (code, out, err) = finish(start(at, processes, arguments));
    assert_eq!(code, Some(0), "{processes} processes {arguments:?}\n{out}\n{err}");
    out
}

fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn assert_same(at: &Path, one: &str, other: &str) {
    let (one, other) = (bytes_of(&at.join(one)), bytes_of(&at.join(other)));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    let differing: Vec<&String> = one.iter().zip(&other).filter(|(a, b)| a != b).map(|((name, _), _)| name).collect();
    assert!(differing.is_empty(), "{differing:?} differ");
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Cuts every 7th picture short and removes every 11th.
fn damage(folder: &Path) {
    let is_picture = |path: &PathBuf| {
        path.extension().is_some_and(|end| ["png", "jpg", "dcm"].iter().any(|known| end.eq_ignore_ascii_case(known)))
    };
    for (number, path) in files(folder).into_iter().filter(is_picture).enumerate() {
        if number % 7 == 3 {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        } else if number % 11 == 5 {
            fs::remove_file(&path).unwrap();
        }
    }
}

/// A table of so many pictures, a few of them damaged, of a few contents.
fn table(at: &Path, pictures: usize) -> &'static str {
    run(at, &["-q", "phantom", "few", "--subjects", "12", "--size", "64"], 0);
    let contents: Vec<PathBuf> = files(&at.join("few/images"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "png"))
        .collect();
    assert!(contents.len() > 20);
    fs::create_dir(at.join("many")).unwrap();
    let damaged = at.join("damaged.png");
    fs::write(&damaged, &fs::read(&contents[0]).unwrap()[..200]).unwrap();
    let mut rows = "subject_id,day,view,image\n".to_string();
    for number in 0..pictures {
        let name = format!("many/{number}.png");
        // Neither a multiple of the number of pictures in a block nor of those in a shard.
        let content = if number % 501 == 77 { &damaged } else { &contents[number % contents.len()] };
        if number % 777 != 123 {
            fs::hard_link(content, at.join(&name)).unwrap();
        }
        rows += &format!("s{},{number},PA,{name}\n", number / 4);
    }
    fs::write(at.join("many.csv"), rows).unwrap();
    "many.csv"
}

#[test]
fn every_source_gives_the_same_bytes_whatever_the_number_of_processes() {
    if !launcher() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layouts = "table,mimic-cxr-jpg,ms-cxr-t,rsna,covidx,chexpert";
    let (said, _) = run(at, &["phantom", "cohort", "--subjects", "60", "--size", "64", "--layout", layouts], 0);
    damage(&at.join("cohort"));
    let commands: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("medst ")).collect();
    assert_eq!(commands.len(), 6, "{said}");
    for (number, command) in commands.iter().enumerate() {
        let names = [1, 2, 4].map(|processes| format!("{number}-{processes}"));
        for (processes, name) in [1, 2, 4].into_iter().zip(&names) {
            let mut arguments: Vec<&str> = command.split(' ').collect();
            *arguments.last_mut().unwrap() = name;
            arguments.extend(["--image-size", "48"]);
            let said = done(at, processes, &arguments);
            assert!(said.matches("studies of").count() == 1 && said.contains("skipped"), "{said}");
            assert!(!at.join(format!("{name}.partial")).exists());
        }
        let skipped = fs::read_to_string(at.join(&names[0]).join("skipped.csv")).unwrap();
        assert!(skipped.contains("image file does not exist"), "{command}\n{skipped}");
        assert_same(at, &names[0], &names[1]);
        assert_same(at, &names[0], &names[2]);
    }
}

/// Three shards, whose borders differ from those of the parts that the processes decode.
#[test]
fn a_process_that_dies_ends_the_job_and_another_number_goes_on_to_the_same_bytes() {
    if !launcher() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let table = table(at, 9000);
    fn arguments<'a>(table: &'a str, out: &'a str) -> [&'a str; 8] {
        ["-q", "prepare", "table", table, "--image-size", "32", "--out", out]
    }
    done(at, 1, &arguments(table, "one"));
    assert_eq!(bytes_of(&at.join("one")).iter().filter(|(name, _)| name.starts_with("images-")).count(), 3);
    done(at, 4, &arguments(table, "four"));
    assert_same(at, "one", "four");

    for (processes, next) in [(3, 2), (2, 1), (1, 4)] {
        let out = format!("killed-{processes}");
        let journals = || {
            let entries = fs::read_dir(at.join(format!("{out}.partial"))).into_iter().flatten().flatten();
            let begun = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal-"));
            begun.filter(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 0)).count()
        };
        // Under load a run may be over before it is killed.
        let mut attempts = 0;
        let (code, err) = loop {
            let mut child = start(at, processes, &arguments(table, &out));
            while journals() < processes && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(2));
            }
            let victim = match processes {
                1 => child.id().to_string(),
                _ => {
                    let all = Command::new("pgrep").args(["-P", &child.id().to_string(), "medst"]).output().unwrap();
                    String::from_utf8_lossy(&all.stdout).lines().last().unwrap_or("").to_string()
                }
            };
            let killed = Instant::now();
            if child.try_wait().unwrap().is_none() && !victim.is_empty() {
                Command::new("kill").args(["-9", &victim]).status().unwrap();
            }
            let (code, _, err) = finish(child);
            assert!(killed.elapsed() < Duration::from_secs(30), "the others waited for it");
            if !at.join(&out).exists() {
                break (code, err);
            }
            attempts += 1;
            assert!(attempts < 20, "{err}");
            fs::remove_dir_all(at.join(&out)).unwrap();
        };
        assert!(code != Some(0), "{err}");
        if processes > 1 {
            assert!(err.contains("signal 9"), "{err}");
            for rank in 0..processes - 1 {
                assert!(err.contains(&format!("medst: process {rank} of {processes}")), "{err}");
            }
        }
        let mut again = arguments(table, &out);
        again[0] = "--json";
        let (code, said, err) = finish(start(at, next, &again));
        assert_eq!(code, Some(0), "{err}");
        assert!(!err.contains("starting from the beginning"), "{err}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said).unwrap()["counts"]["images"], 9000 - 18 - 12);
        assert_same(at, "one", &out);
    }
}

#[test]
fn what_cannot_be_done_is_said_once() {
    if !launcher() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw", "--subjects", "12", "--size", "64"], 0);
    let prepare = ["-q", "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "64"];
    run(at, &prepare, 0);
    let before = bytes_of(&at.join("corpus"));
    for (processes, arguments, expected) in [
        (3, &prepare[..], "is already a corpus"),
        (2, &["prepare", "table", "absent.csv", "--out", "other"][..], "absent.csv"),
        (
            2,
            &["embed", "corpus", "--model", "run", "--out", "e.parquet"][..],
            "2 processes were started, but this command runs in one",
        ),
        (4, &["phantom", "again", "--subjects", "12"][..], "4 processes were started, but this command runs in one"),
        (2, &["inspect", "corpus"][..], "this command runs in one"),
        (3, &["embed", "corpus"][..], "required arguments were not provided"),
    ] {
        let (code, out, err) = finish(start(at, processes, arguments));
        let expected_code = if expected == "absent.csv" { 1 } else { 2 };
        assert_eq!(code, Some(expected_code), "{arguments:?}\n{out}\n{err}");
        assert_eq!(err.matches(expected).count(), 1, "{arguments:?}\n{err}");
        assert!(out.is_empty(), "{out}");
    }
    assert!(!at.join("again").exists() && !at.join("other").exists() && !at.join("e.parquet").exists());
    assert!(before == bytes_of(&at.join("corpus")));
    // Only one process checks the data, and no other process is left waiting.
    let said = done(at, 3, &["prepare", "table", "raw/studies.csv", "--check"]);
    assert_eq!(said.matches("nothing was written").count(), 1, "{said}");
    // And what was prepared together can be trained on together.
    done(at, 2, &["-q", "prepare", "table", "raw/studies.csv", "--out", "together", "--image-size", "64"]);
    let configuration = tiny();
    let settings = [SMALL, &["data.corpus=together", "train.output=run", "train.epochs=1"]].concat();
    done(at, 2, &with(&["-q", "pretrain", &configuration], &settings));
}

#[cfg(feature = "s3")]
#[test]
fn several_processes_write_a_corpus_to_object_storage_and_train_from_it() {
    use command::storage::Storage;
    if !launcher() {
        return;
    }
    let Some(storage) = Storage::start(&[]) else { return };
    storage.cohort();
    storage.prepare("local");
    let together = |arguments: &[&str]| {
        let mut command = Command::new("mpirun");
        command
            .args(["--oversubscribe", "-n", "2", env!("CARGO_BIN_EXE_medst")])
            .args(arguments)
            .current_dir(storage.at());
        command.envs([
            ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
            ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
            ("OMP_NUM_THREADS", "1"),
        ]);
        command.envs(storage.variables()).env("MEDST_CACHE", storage.at().join("cache"));
        let (code, _, err) =
            finish(command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap());
        assert_eq!(code, Some(0), "{err}");
    };
    let prepare = ["-q", "prepare", "table", "raw/studies.csv", "--image-size", "64", "--out", "s3://corpora/a"];
    together(&prepare);
    // Objects are checked against the manifest, which has the same checksums.
    let files = bytes_of(&storage.at().join("local")).into_iter().filter(|(name, _)| *name != "SHA256SUMS");
    for (name, bytes) in files {
        assert!(storage.object(&format!("a/{name}")) == bytes, "{name}");
    }
    let configuration = tiny();
    let losses = |corpus: &str, output: &str| {
        let (corpus, output) = (format!("data.corpus={corpus}"), format!("train.output={output}"));
        let settings =
            [SMALL, &["train.precision=float64", "model.text.dropout=0", "train.max_steps=5", &corpus, &output]]
                .concat();
        together(&with(&["-q", "pretrain", &configuration], &settings));
        let text =
            fs::read_to_string(storage.at().join(&output["train.output=".len()..]).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["total"].clone()).collect::<Vec<_>>()
    };
    let local = losses("local", "run-local");
    assert!(local.len() >= 5);
    assert_eq!(local, losses("s3://corpora/a", "run-stored"));
}
