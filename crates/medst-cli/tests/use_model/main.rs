//! `medst embed`, `zero-shot`, `compare`, `ground` and `search` on files as people have them, with
//! a small model.

mod bombs;
#[path = "../command/mod.rs"]
mod command;
mod formats;
mod notes;
mod serve;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use command::{SMALL, medst, run, tiny, with};
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_data::report::{self, Rule};
use medst_infer::eval::Vectors;
use medst_infer::infer::Engine;
use serde_json::Value;
use tch::Device;

fn json(folder: &Path, arguments: &[&str], code: i32) -> Value {
    let (out, _) = run(folder, &[&["-q", "--json"], arguments].concat(), code);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}\n{out}"))
}

/// A cohort in two layouts, the corpora, and a model of a few steps in `run`.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw/table", "--subjects", "40", "--size", "96"], 0);
    // So many that each course of each finding has pairs enough for a calibration.
    let layouts = ["--layout", "mimic-cxr-jpg,ms-cxr-t"];
    run(at, &[&["-q", "phantom", "raw/archives", "--subjects", "200", "--size", "64"], &layouts[..]].concat(), 0);
    run(at, &["-q", "prepare", "table", "raw/table/studies.csv", "--out", "corpus", "--image-size", "64"], 0);
    let pairs = ["-q", "prepare", "ms-cxr-t", "raw/archives/ms-cxr-t", "--images", "raw/archives/mimic-cxr-jpg"];
    run(at, &[&pairs[..], &["--out", "pairs", "--image-size", "64"]].concat(), 0);
    let settings = [SMALL, &["train.max_steps=5", "data.corpus=corpus", "train.output=run"]].concat();
    run(at, &with(&["-q", "pretrain", &tiny()], &settings), 0);
    folder
}

/// The frontal images of subjects of the table layout.
fn frontals(at: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for subject in fs::read_dir(at.join("raw/table/images")).unwrap() {
        let subject = subject.unwrap().path();
        for image in fs::read_dir(&subject).unwrap() {
            let image: PathBuf = image.unwrap().path();
            let name = image.strip_prefix(at).unwrap().display().to_string();
            if name.ends_with("_frontal.png") {
                all.push(name);
            }
        }
    }
    all.sort();
    all
}

/// A DICOM file with a picture of noise.
fn dicom(at: &Path, name: &str, view: Option<&str>, study: &str) {
    let pixels: Vec<u8> = (0..80 * 80).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let wrap = Wrap { view_position: view, study_uid: study, ..Wrap::new(Pixels::Grey8(&pixels), 80, 80) };
    fs::write(at.join(name), wrap.to_bytes().unwrap()).unwrap();
}

/// The same with two frames.
fn several_frames(at: &Path, name: &str) {
    dicom(at, name, Some("PA"), "2.25.9");
    let bytes = fs::read(at.join(name)).unwrap();
    let rows = bytes.windows(6).position(|window| window == [0x28, 0, 0x10, 0, b'U', b'S']).unwrap();
    let frames = [0x28, 0, 0x08, 0, b'I', b'S', 2, 0, b'2', b' '];
    fs::write(at.join(name), [&bytes[..rows], &frames, &bytes[rows..]].concat()).unwrap();
}

#[test]
fn a_model_meets_what_is_no_file_and_sizes_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw/table", "--subjects", "16", "--size", "64"], 0);
    run(at, &["-q", "prepare", "table", "raw/table/studies.csv", "--out", "corpus", "--image-size", "64"], 0);
    let settings = [SMALL, &["train.max_steps=1", "data.corpus=corpus", "train.output=run"]].concat();
    run(at, &with(&["-q", "pretrain", &tiny()], &settings), 0);
    odd_inputs(at);
    sizes_that_cannot_be(at);
    reports_are_read_by_the_models_rule(at);
    notes::odd_files_are_counted(at);
    notes::vectors_of_holes_are_refused_at_once(at);
}

/// A model with the reference's semantics reads reports by the reference's rule, in files and
/// tables as in the engine, which the service and Python call.
fn reports_are_read_by_the_models_rule(at: &Path) {
    let changes = ["model.semantics=reference", "train.max_steps=1", "data.corpus=corpus", "train.output=reference"];
    run(at, &with(&["-q", "pretrain", &tiny()], &[SMALL, &changes].concat()), 0);
    let report = "FINDINGS: A 1.5 cm nodule at T12.";
    fs::write(at.join("nodule.txt"), report).unwrap();
    fs::write(at.join("nodule.csv"), format!("id,report\nx,{report}\n")).unwrap();
    run(at, &["-q", "embed", "nodule.csv", "nodule.txt", "--model", "reference", "--out", "nodule.npy"], 0);
    let found = Vectors::read_npy(&at.join("nodule.reports.npy")).unwrap();
    let engine = Engine::open(&at.join("reference"), Device::Cpu).unwrap();
    let text = engine.reader().report(report).unwrap();
    assert_eq!(text.words(), "5 cm nodule at t");
    let other = engine.reader().cleaned(&report::prepare(report, None, Rule::Standard).unwrap()).unwrap();
    let expected = engine.texts(&[&text, &other]).unwrap();
    assert!(!close(expected.row(0), expected.row(1)), "the rules differ");
    assert_eq!(found.len(), 2);
    assert!(found.rows().all(|row| close(row, expected.row(0))));
}

/// Inputs that are not regular files, or may not be read, do not prevent the others from being
/// read.
fn odd_inputs(at: &Path) {
    let odd = at.join("odd");
    fs::create_dir_all(odd.join("closed")).unwrap();
    fs::copy(at.join(&frontals(at)[0]), odd.join("a.png")).unwrap();
    fs::copy(at.join(&frontals(at)[1]), odd.join("closed/b.png")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(odd.join("pipe.png")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", odd.join("zero.png")).unwrap();
    std::os::unix::fs::symlink("nowhere", odd.join("lost.png")).unwrap();
    fs::File::create(odd.join("giant.png")).unwrap().set_len(1 << 41).unwrap();
    fs::set_permissions(odd.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may list any folder, and then finds one more picture.
    let root = fs::read_dir(odd.join("closed")).is_ok();
    let (out, err) = run(at, &["embed", "odd", "--model", "run", "--out", "odd.npy"], 1);
    for expected in
        ["pipe.png: is a FIFO", "zero.png: is a device", "lost.png: No such file", "giant.png: has 2199023255552 bytes"]
    {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    match root {
        true => assert!(err.contains("4 of 6 inputs"), "{err}"),
        false => assert!(out.contains("closed: cannot be listed") && err.contains("5 of 6 inputs"), "{out}\n{err}"),
    }
    fs::set_permissions(odd.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    // Files that are named themselves are left out as well; a path that does not exist is an error.
    let (out, _) = run(at, &["embed", "odd/a.png", "odd/pipe.png", "--model", "run", "--out", "odd.npy"], 1);
    assert!(out.contains("1 studies") && out.contains("left out: 1"), "{out}");
    run(at, &["embed", "odd/a.png", "odd/none.png", "--model", "run", "--out", "odd.npy"], 1);
    // Tables, configurations and weights.
    fs::create_dir(at.join("pipes")).unwrap();
    for (name, arguments) in [
        ("t.csv", &["prepare", "table", "pipes/t.csv", "--out", "never"][..]),
        ("c.toml", &["pretrain", "pipes/c.toml"]),
        ("w.safetensors", &["convert", "pipes/w.safetensors", "--out", "never"]),
        ("classes.toml", &["zero-shot", "odd/a.png", "--model", "run", "--classes", "pipes/classes.toml"]),
    ] {
        assert!(std::process::Command::new("mkfifo").arg(at.join("pipes").join(name)).status().unwrap().success());
        let output = medst(at).args(arguments).timeout(Duration::from_secs(300)).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)) && err.contains("is a FIFO"), "{name}: {err}");
    }
}

/// Manifests, cards and configurations whose numbers are absurd or that are empty: errors, not
/// panics or memory.
fn sizes_that_cannot_be(at: &Path) {
    let copy = |from: &str, to: &str| {
        // Without checksums, which would otherwise be reported first.
        for (program, arguments) in [("cp", &["-rL", from, to][..]), ("find", &[to, "-name", "SHA256SUMS", "-delete"])]
        {
            let status = std::process::Command::new(program).args(arguments).current_dir(at).status().unwrap();
            assert!(status.success());
        }
    };
    let replaced = |file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(at.join(file)).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        fs::write(at.join(file), text.replacen(from, to, 1)).unwrap();
    };
    for size in ["0", "4294967296", "18446744073709551615"] {
        copy("corpus", "absurd");
        replaced("absurd/corpus.json", "\"image_size\": 64", &format!("\"image_size\": {size}"));
        let (_, err) = run(at, &["inspect", "absurd"], 1);
        assert!(err.contains("image_size is"), "{err}");
        fs::remove_dir_all(at.join("absurd")).unwrap();
    }
    copy("run", "absurd");
    for (key, value, words) in [
        ("hidden_size", "65536", "million parameters"),
        ("num_layers", "9223372036854775807", "model.image.num_layers"),
        ("size", "4611686018427387904", "model.image.size"),
    ] {
        let card = fs::read_to_string(at.join("run/last/config.json")).unwrap();
        let mut card: Value = serde_json::from_str(&card).unwrap();
        card["model"]["image"][key] = value.parse::<i64>().unwrap().into();
        for name in ["last", "best"] {
            fs::write(at.join("absurd").join(name).join("config.json"), card.to_string()).unwrap();
        }
        let (_, err) = run(at, &["embed", "odd/a.png", "--model", "absurd", "--out", "x.npy"], 2);
        assert!(err.contains(words), "{key}: {err}");
    }
    fs::remove_dir_all(at.join("absurd")).unwrap();
    // A safetensors file whose head is longer than the file, and one whose tensor is.
    let head = br#"{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,9223372036854775807]}}"#;
    for (length, text) in [(u64::MAX / 2, &b"{}"[..]), (head.len() as u64, head)] {
        fs::write(at.join("w.safetensors"), [&length.to_le_bytes(), text].concat()).unwrap();
        let (_, err) = run(at, &["inspect", "w.safetensors"], 1);
        assert!(err.contains("neither safetensors nor"), "{err}");
    }
    // A run whose configuration was lost: starting anew and resuming both name the remedy.
    let settings = [SMALL, &["train.max_steps=1", "data.corpus=corpus", "train.output=lost"]].concat();
    fs::create_dir(at.join("lost")).unwrap();
    fs::write(at.join("lost/config.toml"), "").unwrap();
    for arguments in [vec!["pretrain", &tiny()], vec!["pretrain", &tiny(), "--resume"]] {
        let (_, err) = run(at, &with(&arguments, &settings), 2);
        assert!(err.contains("config.toml is empty; the run has no checkpoint: remove the file"), "{err}");
    }
    fs::remove_file(at.join("lost/config.toml")).unwrap();
    run(at, &with(&["-q", "pretrain", &tiny()], &settings), 0);
    let whole = fs::read(at.join("lost/config.toml")).unwrap();
    fs::write(at.join("lost/config.toml"), "\n").unwrap();
    let (_, err) = run(at, &with(&["pretrain", &tiny(), "--resume"], &settings), 2);
    assert!(err.contains("write the configuration of the run into it"), "{err}");
    fs::write(at.join("lost/config.toml"), whole).unwrap();
    run(at, &with(&["-q", "pretrain", &tiny(), "--resume"], &settings), 0);
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn a_model_is_used_on_files() {
    let folder = prepared();
    let at = folder.path();
    embed(at);
    formats::agree(at);
    zero_shot(at);
    compare(at);
    ground(at);
    search(at);
    names_steer_no_terminal(at);
    serve::answers_are_those_of_the_commands(at);
}

fn embed(at: &Path) {
    // A corpus, its table and its files give the same embeddings.
    let model = ["--model", "run"];
    let write =
        |inputs: &[&str], out: &str, code: i32| json(at, &[&["embed"], inputs, &model, &["--out", out]].concat(), code);
    let corpus = write(&["corpus"], "corpus.npy", 0);
    let count = corpus["studies"].as_u64().unwrap();
    assert_eq!(write(&["raw/table/studies.csv"], "table.npy", 0)["studies"].as_u64(), Some(count));
    let (a, b) = (["corpus.npy", "table.npy"]).map(|name| Vectors::read_npy(&at.join(name)).unwrap()).into();
    let same = |a: &Vectors, b: &Vectors| a.len() == b.len() && close(a.values(), b.values());
    assert!(same(&a, &b));
    let reports = ["corpus.reports.npy", "table.reports.npy"].map(|name| Vectors::read_npy(&at.join(name)).unwrap());
    let embedded = |row: &[f32]| row[0].is_finite();
    assert!(
        reports[0]
            .rows()
            .zip(reports[1].rows())
            .all(|(a, b)| embedded(a) == embedded(b) && (!embedded(a) || close(a, b)))
    );
    let list = fs::read_to_string(at.join("table.csv")).unwrap();
    assert!(list.starts_with("row,study_id,subject_id,split,frontal,lateral\n0,"), "{list}");
    assert_eq!(list.lines().count() as u64, count + 1);
    // The picture of a study without a lateral view, given as a single file: the list names the row
    // to compare with.
    let alone: Vec<&str> = list.lines().skip(1).filter(|line| line.ends_with(',')).take(1).collect();
    let cells: Vec<&str> = alone[0].split(',').collect();
    write(&[cells[4]], "one.npy", 0);
    let row: usize = cells[0].parse().unwrap();
    assert!(close(Vectors::read_npy(&at.join("one.npy")).unwrap().row(0), a.row(row)));
    // Parquet, of the corpus by one way and of the table by the other, is read by eval.
    for input in ["corpus", "raw/table/studies.csv"] {
        write(&[input], "e.parquet", 0);
        let eval = ["eval", "retrieval", "--corpus", "corpus", "--embeddings", "e.parquet", "--replicates", "2"];
        json(at, &eval, 0);
    }

    // Folders: images and reports of one name belong together; DICOM files of one study too; the
    // rest is listed.
    fs::create_dir_all(at.join("mixed/deep")).unwrap();
    let image = frontals(at)[0].clone();
    fs::copy(at.join(&image), at.join("mixed/deep/a.png")).unwrap();
    fs::write(at.join("mixed/deep/a.txt"), "FINDINGS: There is mild pulmonary edema.\n").unwrap();
    fs::write(at.join("mixed/note.txt"), "The lungs are clear. No pleural effusion.").unwrap();
    fs::write(at.join("mixed/short.txt"), "ok").unwrap();
    fs::write(at.join("mixed/readme.md"), "# nothing").unwrap();
    fs::write(at.join("mixed/cut.jpg"), [0xff, 0xd8, 0xff, 0xe0]).unwrap();
    for (name, view) in [("pa.dcm", Some("PA")), ("ll.dcm", Some("LL")), ("odd.dcm", Some("LLD"))] {
        dicom(at, &format!("mixed/{name}"), view, "2.25.7");
    }
    several_frames(at, "mixed/two.dcm");
    let (out, err) = run(at, &[&["embed", "mixed"][..], &model, &["--out", "m.npy"]].concat(), 1);
    for expected in ["3 studies, 2 with an image, 2 with a report", "1 other files ignored", "left out: 4"] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    for expected in [
        "cut.jpg: truncated",
        "two.dcm: 2 frames are not supported",
        "odd.dcm: its header",
        "short.txt: report has fewer",
    ] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    assert!(err.contains("4 of 7 inputs could not be used"), "{err}");
    let rows = fs::read_to_string(at.join("m.csv")).unwrap();
    let line = rows.lines().find(|line| line.contains("pa.dcm")).unwrap();
    assert!(line.contains("ll.dcm"), "{rows}");

    // A less strict table: one study per row.
    let table = format!(
        "id,frontal,text,edema\nx,../{image},The heart is enlarged.,1\ny,absent.png,,0\nz,,Clear lungs are seen.,0\n"
    );
    fs::write(at.join("mixed/loose.csv"), table).unwrap();
    let loose = json(at, &["embed", "mixed/loose.csv", "--model", "run", "--out", "l.parquet"], 1);
    assert_eq!((&loose["studies"], &loose["with_image"], &loose["with_report"]), (&2.into(), &1.into(), &2.into()));

    let say = |arguments: &[&str], code: i32, expected: &str| {
        let (_, err) = run(at, &[arguments, &model, &["--out", "x.parquet"]].concat(), code);
        assert!(err.contains(expected), "{arguments:?}: {expected}\n{err}");
        assert!(!at.join("x.parquet").exists());
    };
    say(&["embed", "absent.png"], 1, "absent.png");
    say(&["embed", "mixed/readme.md"], 2, "unsupported file type");
    say(&["embed", "mixed/cut.jpg"], 1, "cut.jpg: truncated JPEG");
    say(&["embed", "corpus", &image], 2, "a corpus cannot be combined");
    say(&["embed", "mixed/ll.dcm", "--view", "frontal"], 2, "declared as frontal, but its header says Ll");
    say(&["embed", &image, "--split", "test"], 2, "the inputs have no study in split test");
    fs::write(at.join("mixed/colours.csv"), "colour\nred\n").unwrap();
    say(&["embed", "mixed/colours.csv"], 1, "neither images (column image or frontal) nor reports");
    // A corpus whose pictures are smaller than the model's input.
    run(at, &["-q", "prepare", "table", "raw/table/studies.csv", "--out", "tiny", "--image-size", "32"], 0);
    say(&["embed", "tiny"], 2, "the model reads images of 48 pixels, but the images of the corpus have only 32");
    let (_, err) = run(at, &["zero-shot", "tiny", "--model", "run", "--class", "edema"], 2);
    assert!(err.contains("the model reads images of 48 pixels, but the images of the corpus have only 32"), "{err}");
}

fn zero_shot(at: &Path) {
    let images = frontals(at);
    let classes = ["--class", "edema", "--class", "pleural effusion=large effusion|blunted angle"];
    let base = [&["zero-shot", &images[0], &images[1], "--model", "run"], &classes[..]].concat();
    let plain = json(at, &base, 0);
    assert_eq!(plain["studies"].as_array().unwrap().len(), 2);
    assert_eq!(plain["calibrated_on"], Value::Null);
    assert!(run(at, &base, 0).0.contains("not calibrated"));
    let fit = [&["zero-shot", "corpus", "--model", "run", "--fit-calibration", "cal.json"], &classes[..]].concat();
    let fitted = json(at, &fit, 0);
    let fits = fitted["fits"].as_array().unwrap();
    assert!(fits.iter().all(|fit| fit["after"]["log_loss"].as_f64() < fit["before"]["log_loss"].as_f64()), "{fits:?}");
    let calibrated = json(at, &[&base[..], &["--calibration", "cal.json", "--out", "p.csv"]].concat(), 0);
    assert_eq!(calibrated["calibrated_on"], "corpus");
    // The share of images with the finding is what a model that learnt next to nothing should say.
    let counts = fits[0]["counts"].as_array().unwrap().iter().map(|count| count.as_f64().unwrap()).collect::<Vec<_>>();
    let p = calibrated["studies"][0]["probabilities"][0].as_f64().unwrap();
    assert!((p - counts[1] / (counts[0] + counts[1])).abs() < 0.25, "{p} {counts:?}");
    let table = fs::read_to_string(at.join("p.csv")).unwrap();
    assert!(table.starts_with("study_id,edema,pleural effusion\n"), "{table}");

    fs::write(
        at.join("classes.toml"),
        "kind = \"exclusive\"\n[[class]]\nname = \"normal\"\npositive = [\"no acute process\"]\n[[class]]\nname = \"sick\"\npositive = [\"acute process\"]\n",
    )
    .unwrap();
    let exclusive = json(at, &["zero-shot", &images[0], "--model", "run", "--classes", "classes.toml"], 0);
    let p = exclusive["studies"][0]["probabilities"].as_array().unwrap();
    assert!((p[0].as_f64().unwrap() + p[1].as_f64().unwrap() - 1.0).abs() < 1e-9);

    let long = "edema ".repeat(300);
    for (more, code, expected) in [
        (&["--class", ""][..], 2, "no name"),
        (&["--class", "x=?!"], 2, "class x: the prompt “?!” has no words"),
        (&["--class", &long], 2, "the model reads at most 112 tokens"),
        (&["--class", "edema", "--class", "EDEMA"], 2, "twice"),
        (&["--class", "edema", "--exclusive"], 2, "give two or more exclusive classes"),
        (&["--class", "edema", "--calibration", "cal.json"], 2, "other classes or sentences"),
        (&["--classes", "absent.toml"], 1, "absent.toml"),
        (&["--classes", "p.csv"], 2, "p.csv"),
        (&["--class", "edema", "--calibration", "p.csv"], 2, "p.csv: not a calibration"),
        (&["--class", "edema", "--fit-calibration", "c.json"], 1, "rows are labelled"),
        (&[], 2, "--class"),
    ] {
        let (_, err) = run(at, &[&["zero-shot", &images[0], "--model", "run"], more].concat(), code);
        assert!(err.contains(expected), "{more:?}: {expected}\n{err}");
    }
    fs::write(at.join("damaged.png"), &fs::read(at.join(&images[0])).unwrap()[..900]).unwrap();
    let partly = json(at, &["zero-shot", "damaged.png", &images[0], "--model", "run", "--class", "edema"], 1);
    assert_eq!(partly["left_out"][0]["file"], "damaged.png");
    assert_eq!(partly["studies"].as_array().unwrap().len(), 1);
}

fn compare(at: &Path) {
    let images = frontals(at);
    // A subject with three visits or more.
    let visits =
        |image: &String| images.iter().filter(|other| other.split('/').nth(3) == image.split('/').nth(3)).count();
    let first = images.iter().find(|image| visits(image) >= 3).unwrap();
    let subject = first.split('/').nth(3).unwrap();
    let of_subject: Vec<&String> = images.iter().filter(|image| image.split('/').nth(3) == Some(subject)).collect();
    fs::write(at.join("r1.txt"), "FINDINGS: Small left pleural effusion. No edema.").unwrap();
    fs::write(at.join("r2.txt"), "IMPRESSION: The effusion has increased.").unwrap();
    let points = [
        format!("{},r1.txt,date=2020-03-01", of_subject[0]),
        format!("frontal={},report=r2.txt,date=2020-03-11", of_subject[1]),
        format!("{},date=2020-04-01", of_subject[2]),
    ];
    let base: Vec<&str> = ["compare"].into_iter().chain(points.iter().map(String::as_str)).collect();
    let found = json(at, &[&base[..], &["--model", "run"]].concat(), 0);
    assert_eq!(found["steps"].as_array().unwrap().len(), 3, "two steps, and from the first to the last");
    assert_eq!((&found["steps"][0]["days"], &found["steps"][2]["days"]), (&10.0.into(), &31.0.into()));
    assert_eq!(found["steps"][0]["findings"].as_array().unwrap().len(), 5);
    assert_eq!(found["reported"], serde_json::json!([0, 1]));
    assert_eq!((&found["order_by_reports"]["orders"], &found["order_by_images"]["orders"]), (&2.into(), &3.into()));
    assert!(found["steps"][0]["report_similarity"].is_f64() && found["steps"][1]["report_similarity"].is_null());
    // Dates decide the order, not the place on the line.
    let swapped = [&["compare", &points[1], &points[0], "--finding", "Edema"][..], &["--model", "run"]].concat();
    assert!(json(at, &swapped, 0)["time_points"][0].as_str().unwrap().contains("03-01"));

    let fit = json(at, &["compare", "pairs", "--model", "run", "--fit-calibration", "courses.json"], 0);
    assert_eq!(fit["fits"].as_array().unwrap().len(), 5);
    let calibrated = [&base[..], &["--model", "run", "--calibration", "courses.json"]].concat();
    let found = json(at, &calibrated, 0);
    let courses = found["steps"][0]["findings"][0]["courses"].as_array().unwrap();
    assert!((courses.iter().map(|course| course.as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 1e-9);
    let (out, _) = run(at, &calibrated, 0);
    assert!(out.contains("calibrated on pairs") && out.contains("most probable order from images alone"), "{out}");
    let of_corpus = json(at, &["compare", "corpus", "--subject", subject, "--model", "run"], 0);
    assert_eq!(of_corpus["time_points"].as_array().unwrap().len(), of_subject.len());

    dicom(at, "side.dcm", Some("LATERAL"), "2.25.3");
    fs::create_dir(at.join("visit")).unwrap();
    fs::copy(at.join(of_subject[0]), at.join("visit/a.png")).unwrap();
    fs::copy(at.join("r1.txt"), at.join("visit/b.txt")).unwrap();
    assert_eq!(json(at, &["compare", "visit", of_subject[1], "--model", "run"], 0)["reported"], serde_json::json!([0]));
    for (points, code, expected) in [
        (&[of_subject[0].as_str()][..], 2, "needs two or more"),
        (&[of_subject[0], "absent.png"], 1, "absent.png"),
        (&[of_subject[0], "frontal=side.dcm"], 1, "side.dcm: not a readable radiograph: declared as frontal"),
        (&[of_subject[0], "r1.txt"], 2, "has no image"),
        (&[of_subject[0], "damaged.png"], 1, "damaged.png"),
        (&[of_subject[0], "raw/table/images"], 2, "several studies"),
        (&["corpus", "--subject", "unknown"], 2, "no image of subject unknown"),
        (&["corpus", "--fit-calibration", "x.json"], 1, "pairs.csv"),
        (&[of_subject[0], of_subject[1], "--calibration", "cal.json"], 2, "cal.json"),
        (&[of_subject[0], of_subject[1], "--finding", " "], 2, "has no name"),
    ] {
        let (_, err) = run(at, &[&["compare", "--model", "run"], points].concat(), code);
        assert!(err.contains(expected), "{points:?}: {expected}\n{err}");
    }
}

fn ground(at: &Path) {
    let images = frontals(at);
    let with_lateral = images.iter().find(|image| at.join(image.replace("_frontal", "_lateral")).exists()).unwrap();
    let lateral = with_lateral.replace("_frontal", "_lateral");
    let base = ["ground", with_lateral.as_str(), "--model", "run", "--phrase", "left pleural effusion"];
    let more = ["--lateral", &lateral, "--out", "maps/heat.png", "--word-maps", "words", "--matrices"];
    let found = json(at, &[&base[..], &more].concat(), 0);
    let phrase = &found["phrases"][0];
    assert_eq!(phrase["words"].as_array().unwrap().len(), 4, "three words and the end");
    assert_eq!(phrase["matrices"]["similarity"][0].as_array().unwrap().len(), 2 * 9);
    let size = phrase["views"][0]["size"].as_array().unwrap();
    for found in phrase["views"][0]["boxes"].as_array().unwrap() {
        let bounds: Vec<f64> = found["bounds"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(bounds[0] < bounds[2] && bounds[2] <= size[0].as_f64().unwrap(), "{bounds:?}");
    }
    for name in ["maps/heat.png", "maps/heat-lateral.png", "words/01-left.png", "words/03-effusion-lateral.png"] {
        assert!(fs::read(at.join(name)).unwrap().starts_with(b"\x89PNG"), "{name}");
    }
    run(at, &[&base[..], &["--phrase", "edema", "--out", "many"]].concat(), 0);
    assert!(at.join("many/02-edema.png").exists());
    for (more, code, expected) in [
        (&["--phrase", "edema", "--out", "x.png"][..], 2, "must be a folder"),
        (&["--phrase", "…"], 2, "no words"),
        (&["--lateral", "absent.png"], 1, "absent.png"),
        (&["--threshold", "1.5"], 2, "below 1"),
        (&["--out", "r1.txt/x.png"], 1, "r1.txt"),
    ] {
        let (_, err) = run(at, &[&base[..], more].concat(), code);
        assert!(err.contains(expected), "{more:?}: {expected}\n{err}");
    }
    let (_, err) = run(at, &["ground", "side.dcm", "--view", "frontal", "--model", "run", "--phrase", "edema"], 1);
    assert!(err.contains("declared as frontal"), "{err}");
    assert!(!at.join("x.png").exists());
}

fn search(at: &Path) {
    let built = json(at, &["search", "index", "corpus", "--model", "run", "--out", "index"], 0);
    assert!(built["studies"].as_u64().unwrap() > 80 && built["graph_recall"].is_null());
    let find = |more: &[&str]| json(at, &[&["search", "find", "index"], more].concat(), 0);
    let images = frontals(at);
    let by_image = find(&["--image", &images[0], "-k", "4"]);
    assert_eq!(by_image["found"].as_array().unwrap().len(), 4);
    // The image of the index with the same frontal picture, unless a lateral one was joined to it.
    assert!(by_image["found"][0]["similarity"].as_f64().unwrap() > 0.9);
    let filtered = find(&["--text", "edema", "--finding", "edema=1", "--from", "0", "--to", "30"]);
    for found in filtered["found"].as_array().unwrap() {
        assert_eq!(found["labels"]["edema"], "1");
        assert!((0.0..=30.0).contains(&found["acquired"].as_f64().unwrap()));
    }
    let study = by_image["found"][0]["study"].as_str().unwrap();
    let near = find(&["--study", study, "--among", "reports"]);
    assert!(near["found"].as_array().unwrap().iter().all(|found| found["study"] != study));
    find(&["--text", "edema", "--image", &images[1], "--text-share", "0.3"]);
    let with_graph =
        ["search", "index", "corpus", "--model", "run", "--out", "index", "--overwrite", "--graph", "always"];
    if cfg!(feature = "approximate") {
        run(at, &with_graph, 0);
        assert_eq!(find(&["--study", study])["exact"], false);
    } else {
        assert!(run(at, &with_graph, 2).1.contains("built without approximate search"));
    }
    assert_eq!(find(&["--study", study, "--exact"])["exact"], true);
    // A filtered search finds every matching study, with or without a graph, and the answer tells
    // how the index was searched.
    let rare = find(&["--study", study, "--finding", "pneumothorax", "--not-subject", "p00000", "-k", "1000"]);
    let all = rare["candidates"].as_u64().unwrap();
    assert!(all > 0 && all < built["studies"].as_u64().unwrap(), "{all}");
    assert_eq!((rare["found"].as_array().unwrap().len() as u64, &rare["exact"]), (all, &true.into()));

    for (arguments, code, expected) in [
        (&["search", "index", "corpus", "--model", "run", "--out", "index"][..], 2, "--overwrite"),
        (&["search", "index", "corpus", "--model", "run", "--out", "corpus"], 2, "not an index"),
        (&["search", "find", "corpus", "--text", "edema"], 1, "medst search index"),
        (&["search", "find", "index"], 2, "--image"),
        (&["search", "find", "index", "--text", "?"], 2, "no words"),
        (&["search", "find", "index", "--study", "unknown"], 2, "no study unknown"),
        (&["search", "find", "index", "--text", "edema", "--from", "soon"], 2, "neither a date"),
        (&["search", "find", "index", "--text", "edema", "--finding", "edemas"], 2, "a label `edemas`"),
        (&["search", "find", "index", "--text", "edema", "--finding", "edemas=0"], 2, "pleural effusion"),
        (&["search", "find", "index", "--text", "edema", "--model", "corpus"], 1, "not a run"),
    ] {
        let (_, err) = run(at, arguments, code);
        assert!(err.contains(expected), "{arguments:?}: {expected}\n{err}");
    }
    // Another model's vectors are not comparable.
    let copy = at.join("other");
    fs::create_dir(&copy).unwrap();
    for name in ["model.safetensors", "config.json"] {
        fs::copy(at.join("run/last").join(name), copy.join(name)).unwrap();
    }
    let weights = copy.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let (_, err) = run(at, &["search", "find", "index", "--text", "edema", "--model", "other"], 2);
    assert!(err.contains("the index was made by a model with other weights"), "{err}");
    let (_, err) = run(
        at,
        &[
            "zero-shot",
            &images[0],
            "--class",
            "edema",
            "--class",
            "pleural effusion=large effusion|blunted angle",
            "--calibration",
            "cal.json",
            "--model",
            "other",
        ],
        2,
    );
    assert!(err.contains("another model"), "{err}");
}

/// Control sequences in file names must not reach the terminals of users who list the files.
fn names_steer_no_terminal(at: &Path) {
    fs::create_dir(at.join("names")).unwrap();
    fs::copy(at.join(&frontals(at)[0]), at.join("names/a\u{1b}]0;title\u{7}.png")).unwrap();
    fs::write(at.join("names/b\u{1b}[2J\u{9b}\rcut.jpg"), [0xff, 0xd8, 0xff, 0xe0]).unwrap();
    let model = ["--model", "run"];
    let (out, err) = run(at, &[&["embed", "names"][..], &model, &["--out", "names.npy"]].concat(), 1);
    let (shown, more) =
        run(at, &[&["zero-shot", "names"][..], &model, &["--class", "edema", "--out", "names-shot.csv"]].concat(), 1);
    let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
    for text in [out + &err, shown + &more, read("names.csv"), read("names-shot.csv")] {
        assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{text:?}");
        assert!(text.contains("\\u{1b}"), "{text}");
    }
}
