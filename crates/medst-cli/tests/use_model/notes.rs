//! Odd files that are read by a stated rule are counted, and files of holes are refused before they
//! are read.

use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;

use super::command::run;
use super::{dicom, frontals, json};

const NO_PREAMBLE: &str = "DICOM: no preamble; encoding inferred from the elements";

pub fn odd_files_are_counted(at: &Path) {
    fs::create_dir(at.join("noted")).unwrap();
    fs::copy(at.join(&frontals(at)[0]), at.join("noted/a.png")).unwrap();
    for (name, study) in [("noted/b.dcm", "2.25.1"), ("noted/c.dcm", "2.25.2")] {
        dicom(at, name, Some("PA"), study);
        let whole = fs::read(at.join(name)).unwrap();
        fs::write(at.join(name), &whole[132..]).unwrap();
    }
    let model = ["--model", "run"];
    let commands = [
        vec!["embed", "noted", "--out", "noted.parquet"],
        vec!["search", "index", "noted", "--out", "noted-index"],
        vec!["zero-shot", "noted", "--class", "edema"],
    ];
    for command in commands {
        let answer = json(at, &[&command[..], &model].concat(), 0);
        assert_eq!(answer["notes"], serde_json::json!({ NO_PREAMBLE: 2 }), "{command:?}: {answer}");
    }
    let (out, _) = run(at, &["-q", "embed", "noted", "--model", "run", "--out", "noted.npy"], 0);
    assert!(out.contains(&format!("note           2  {NO_PREAMBLE}")), "{out}");
    let plain: Value = json(at, &["embed", "noted/a.png", "--model", "run", "--out", "plain.npy"], 0);
    assert_eq!(plain["notes"], serde_json::json!({}));
}

/// Fifty gigabytes that no disk holds, in every place where vectors are read.
pub fn vectors_of_holes_are_refused_at_once(at: &Path) {
    const SIZE: u64 = 50_000_000_000;
    let grown = |path: &Path, size: u64| File::options().write(true).open(path).unwrap().set_len(size).unwrap();
    let eval = |file: &str| {
        let command = ["-q", "eval", "retrieval", "--corpus", "corpus", "--embeddings", file, "--replicates", "2"];
        run(at, &command, 1).1
    };
    run(at, &["-q", "embed", "corpus", "--model", "run", "--out", "sparse.npy"], 0);
    run(at, &["-q", "embed", "corpus", "--model", "run", "--out", "sparse.parquet"], 0);
    for name in ["sparse.npy", "sparse.parquet"] {
        grown(&at.join(name), SIZE);
        let err = eval(name);
        assert!(err.contains(name) && err.contains("50000000000 bytes") && err.contains("a sparse file"), "{err}");
    }
    // A file that is not sparse, of another size than its header states.
    let whole = fs::read(at.join("sparse.reports.npy")).unwrap();
    fs::write(at.join("longer.npy"), [&whole[..], &[0; 64]].concat()).unwrap();
    assert!(eval("longer.npy").contains("has bytes after its values"));
    // An index whose manifest agrees with the giant.
    run(at, &["-q", "search", "index", "corpus", "--model", "run", "--out", "giant"], 0);
    let vectors = at.join("giant/images.npy");
    let (length, manifest) = (fs::metadata(&vectors).unwrap().len(), at.join("giant/index.json"));
    grown(&vectors, SIZE);
    let text = fs::read_to_string(&manifest).unwrap();
    let entry = format!("\"images.npy\": {length}");
    assert!(text.contains(&entry), "{text}");
    fs::write(&manifest, text.replace(&entry, &format!("\"images.npy\": {SIZE}"))).unwrap();
    let sums = fs::read_to_string(at.join("giant/SHA256SUMS")).unwrap();
    let sums: String =
        sums.lines().filter(|line| !line.ends_with("index.json")).map(|line| format!("{line}\n")).collect();
    let find = ["-q", "search", "find", "giant", "--study", "p00000-v1"];
    fs::write(at.join("giant/SHA256SUMS"), sums).unwrap();
    let (_, err) = run(at, &find, 1);
    assert!(err.contains("images.npy") && err.contains("a sparse file"), "{err}");
    let (out, _) = run(at, &["-q", "verify", "giant"], 1);
    assert!(out.contains("images.npy") && out.contains("a sparse file"), "{out}");
    fs::remove_file(at.join("giant/SHA256SUMS")).unwrap();
    let (_, err) = run(at, &find, 1);
    assert!(err.contains("images.npy") && err.contains("a sparse file"), "{err}");
}
