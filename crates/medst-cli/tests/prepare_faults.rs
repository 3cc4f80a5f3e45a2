//! `medst prepare` killed, raced and misled, through the real binary.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn medst(at: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medst"));
    command.args(arguments).current_dir(at).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

fn cohort(subjects: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        finish(medst(folder.path(), &["phantom", "cohort", "--subjects", subjects, "--size", "128"])).0,
        Some(0)
    );
    folder
}

const TABLE: &str = "cohort/studies.csv";

#[test]
fn killed_anywhere_it_ends_with_the_bytes_of_an_uninterrupted_run() {
    let folder = cohort("260");
    let at = folder.path();
    let start = Instant::now();
    assert_eq!(finish(medst(at, &["prepare", "table", TABLE, "--out", "whole"])).0, Some(0));
    let whole_run = start.elapsed();
    let resume = ["prepare", "table", TABLE, "--out", "killed"];
    let (mut kills, mut halfway) = (0, 0);
    // Growing pieces of the time a whole run takes; the last ones end by themselves.
    for piece in 1..=40u32 {
        let mut child = medst(at, &resume);
        std::thread::sleep(whole_run * (piece % 20 + 1) / 22);
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        halfway += usize::from(at.join("killed.partial/part-000000000-00000.npy").exists());
        // The target never contains anything that could pass for a corpus without being one.
        if at.join("killed").exists() {
            break;
        }
    }
    assert!(kills >= 5 && halfway >= 2, "{kills} kills, {halfway} of them with pictures written");
    if !at.join("killed").exists() {
        let (code, err) = finish(medst(at, &resume));
        assert_eq!(code, Some(0), "{err}");
    }
    // A kill between the renaming of the folder and the removal of its lock leaves the lock, which
    // blocks no later run.
    fs::remove_file(at.join("killed/lock")).ok();
    assert!(bytes_of(&at.join("whole")) == bytes_of(&at.join("killed")));
    assert!(!at.join("killed.partial").exists());
}

#[test]
fn a_source_that_changed_since_the_interruption_is_noticed() {
    let folder = cohort("260");
    let at = folder.path();
    let resume = ["prepare", "table", TABLE, "--out", "corpus"];
    let mut child = medst(at, &resume);
    let journal = at.join("corpus.partial/journal-000000000.jsonl");
    let begun = || fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() > 0);
    let start = Instant::now();
    while !begun() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(begun());
    child.kill().unwrap();
    child.wait().unwrap();
    let image = "cohort/images/p00000/p00000-v1_frontal.png";
    fs::copy(at.join("cohort/images/p00001/p00001-v1_frontal.png"), at.join(image)).unwrap();
    let (code, err) = finish(medst(at, &resume));
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("changed since the interrupted run"), "{err}");
    assert_eq!(finish(medst(at, &["prepare", "table", TABLE, "--out", "fresh"])).0, Some(0));
    assert!(bytes_of(&at.join("corpus")) == bytes_of(&at.join("fresh")));
}

#[test]
fn a_second_writer_is_refused() {
    let folder = cohort("300");
    let at = folder.path();
    let arguments = ["prepare", "table", TABLE, "--out", "corpus"];
    let first = medst(at, &arguments);
    let start = Instant::now();
    while !at.join("corpus.partial/journal.jsonl").exists() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Paused, so that it cannot finish in the meantime.
    let signal = |name: &str| Command::new("kill").args([name, &first.id().to_string()]).status().unwrap().success();
    assert!(signal("-STOP"));
    let (code, err) = finish(medst(at, &arguments));
    assert!(signal("-CONT"));
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("is being written by another program"), "{err}");
    assert_eq!(finish(first).0, Some(0));
}

#[test]
fn check_reports_and_writes_nothing() {
    let folder = cohort("20");
    let at = folder.path();
    let output = Command::new(env!("CARGO_BIN_EXE_medst"))
        .args(["prepare", "table", TABLE, "--check"])
        .current_dir(at)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("images exist") && text.contains("nothing was written"), "{text}");
    assert_eq!(fs::read_dir(at).unwrap().count(), 1, "only the cohort");
    let (code, err) = finish(medst(at, &["prepare", "table", TABLE]));
    assert!(code == Some(2) && err.contains("--out"), "{err}");
}
