//! The ablation study in small, from cohorts to the page, through the study's program and the real
//! command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

struct Study {
    at: PathBuf,
    medst: String,
}

impl Study {
    fn run(&self, arguments: &[&str], code: i32) -> String {
        let output =
            Command::new(env!("CARGO_BIN_EXE_medst-ablation")).current_dir(&self.at).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{said}");
        said
    }

    fn units(&self, more: &[&str]) -> String {
        self.run(&[&["run", "study.toml", "--medst", &self.medst, "--work", "work"], more].concat(), 0)
    }
}

#[test]
fn a_study_runs_resumes_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    // Of another workspace, so that cargo does not build it for this test.
    let medst = std::env::var_os("MEDST").map_or(root().join("target/release/medst"), PathBuf::from);
    if !medst.exists() {
        println!("skipped: {} is missing; make build", medst.display());
        return;
    }
    let medst = medst.display().to_string();
    let study = Study { at: folder.path().to_path_buf(), medst };
    let at = &study.at;
    let table = fs::read_to_string(root().join("lab/ablation/arms.toml")).unwrap();
    fs::write(at.join("arms.toml"), table).unwrap();
    let base = fs::read_to_string(root().join("lab/ablation/pretrain.toml")).unwrap();
    let vocabulary = root().join("models/phantom/vocab.txt");
    let short = with_line(&base, "max_steps = ", "max_steps = 4");
    let short = with_line(&short, "vocabulary = \"", &format!("vocabulary = '{}'", vocabulary.display()));
    fs::write(at.join("pretrain.toml"), short).unwrap();
    fs::write(
        at.join("study.toml"),
        r#"
        arms = "arms.toml"
        pretrain = "pretrain.toml"
        results = "results"
        seeds = [1, 2]
        [cohort]
        subjects = 60
        difficulty = "hard"
        picture = 96
        image_size = 72
        [[test]]
        name = "hard"
        difficulty = "hard"
        subjects = 60
        pair_subjects = 60
        seed = 901
        [[test]]
        name = "plain"
        difficulty = "plain"
        subjects = 40
        pair_subjects = 40
        seed = 902
        [base]
        subjects = 30
        seed = 900
        difficulty = "plain"
        set = ["loss.temporal_weight=0", "model.lateral=ignored"]
        "#,
    )
    .unwrap();
    let arms = ["--arms", "full,no-local"];

    // Not even the encoders that runs start from: they are begun, and taken up again.
    let said = study.units(&["--arms", "full", "--minutes", "0"]);
    assert!(said.contains("out of time before the first unit; 2 units are left"), "{said}");
    assert!(!at.join("results").exists());

    // One arm after the other; what is done is not done twice.
    let said = study.units(&["--arms", "full"]);
    assert!(said.contains("0 of 2 units are done") && said.contains("0 units are left"), "{said}");
    let first = fs::read_to_string(at.join("results/full.jsonl")).unwrap();
    let said = study.units(&arms);
    assert!(said.contains("2 of 4 units are done"), "{said}");
    assert_eq!(fs::read_to_string(at.join("results/full.jsonl")).unwrap(), first);
    assert_eq!(first.lines().count(), 2);
    let record: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    // The pairs of so few patients leave some figures undefined, never those of the cohort.
    for outcome in ["probe", "retrieval", "order", "grounding", "sentences", "probe, plain", "order, plain"] {
        assert!(record["figures"][outcome][0].is_f64(), "{outcome}: {record}");
    }
    assert!(record["losses"]["total"].as_f64().unwrap() > 0.0, "{record}");
    assert!(!at.join("work/runs/full-1").exists(), "models are not kept");

    // No time left: nothing begins.
    let said = study.units(&["--arms", "no-lateral", "--minutes", "0"]);
    assert!(said.contains("2 units are left"), "{said}");
    assert!(study.run(&["plan", "study.toml", "--arms", "full"], 0).contains("2 of   2 done"));

    study.run(&["report", "study.toml", "--arms", "full,no-local,no-lateral", "--out", "evidence.md"], 0);
    let page = fs::read_to_string(at.join("evidence.md")).unwrap();
    assert!(page.contains("**4 of 6 runs are complete**") && page.contains("| `no-local` |"), "{page}");

    // The same configuration may give other base weights elsewhere: that is noted, said, and
    // nothing compared across.
    let base = record["base"].as_str().unwrap();
    assert!(
        base.len() == 12 && page.contains(&format!("SHA-256: `{base}`.")) && !page.contains("runs of the same base"),
        "{page}"
    );
    let own = fs::read_to_string(at.join("results/no-local.jsonl")).unwrap();
    fs::write(at.join("results/no-local.jsonl"), own.replace(base, "0123456789ab")).unwrap();
    study.run(&["report", "study.toml", "--arms", "full,no-local", "--out", "other.md"], 0);
    let page = fs::read_to_string(at.join("other.md")).unwrap();
    assert!(page.contains("`0123456789ab`") && page.contains("runs of the same base"), "{page}");
    assert!(!page.contains("## Claims"), "runs of different bases are compared: {page}");
    let said = study.units(&["--arms", "full,no-local,no-lateral", "--minutes", "0"]);
    assert!(said.contains("2 records are of another base than"), "{said}");
    fs::write(at.join("results/no-local.jsonl"), own).unwrap();

    // Everything that a record was made with counts: another base configuration makes it stale.
    let warmer = with_line(&fs::read_to_string(at.join("pretrain.toml")).unwrap(), "lr = ", "lr = 3e-3");
    fs::write(at.join("pretrain.toml"), warmer).unwrap();
    assert!(study.run(&["plan", "study.toml", "--arms", "full"], 0).contains("0 of   2 done"));

    let said = study.run(&["plan", "study.toml", "--arms", "fulll"], 1);
    assert!(said.contains("no arm `fulll`") && said.contains("no-local"), "{said}");
    let said = study.run(&["run", "study.toml", "--medst", "nowhere/medst"], 1);
    assert!(said.contains("nowhere/medst"), "{said}");
    fs::write(at.join("pretrain.toml"), "[train]\nsteps = 4\n").unwrap();
    let said = study.run(&["run", "study.toml", "--medst", &study.medst, "--work", "work", "--arms", "no-local"], 1);
    assert!(said.contains("the base run ended with") && said.contains("steps"), "{said}");
}

/// Replaces the line that begins with `start`.
fn with_line(text: &str, start: &str, line: &str) -> String {
    let lines = text.lines().map(|own| if own.starts_with(start) { line } else { own });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
