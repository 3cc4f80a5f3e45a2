//! The phantom cohorts of a study: one for each seed to learn from, and those that all runs are
//! judged on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::study::{Study, Test};
use crate::unit::{How, Unit};

/// The prepared corpora of a test: single studies, and pairs in MS-CXR-T's layout.
#[derive(Clone, Debug)]
pub struct Judged {
    pub cohort: PathBuf,
    pub pairs: PathBuf,
}

/// Added to a test's seed for its pairs, so that they differ from its single studies.
const PAIRS: u64 = 100_000;

/// A cohort to draw.
struct CohortSpec<'a> {
    subjects: usize,
    seed: u64,
    difficulty: &'a str,
    picture: usize,
    image_size: usize,
}

impl CohortSpec<'_> {
    fn draw(&self, out: &Path, layout: &str, how: &How) -> Result<()> {
        if out.exists() {
            fs::remove_dir_all(out).with_context(|| text(out))?;
        }
        let numbers = [self.subjects.to_string(), self.seed.to_string(), self.picture.to_string()];
        let [subjects, seed, size] = numbers.each_ref().map(String::as_str);
        let start = ["phantom", &text(out), "--subjects", subjects, "--seed", seed, "--size", size];
        how.medst(&[&start[..], &["--difficulty", self.difficulty, "--layout", layout]].concat()).map(drop)
    }

    fn studies(&self, corpus: &Path, how: &How) -> Result<()> {
        if corpus.join("corpus.json").exists() {
            return Ok(());
        }
        let raw = corpus.with_extension("raw");
        self.draw(&raw, "table", how)?;
        let (table, side) = (text(&raw.join("studies.csv")), self.image_size.to_string());
        how.medst(&["prepare", "table", &table, "--out", &text(corpus), "--image-size", &side])?;
        fs::remove_dir_all(&raw).with_context(|| text(&raw))
    }

    fn pairs(&self, corpus: &Path, how: &How) -> Result<()> {
        if corpus.join("corpus.json").exists() {
            return Ok(());
        }
        let raw = corpus.with_extension("raw");
        self.draw(&raw, "mimic-cxr-jpg,ms-cxr-t", how)?;
        let (pairs, images) = (text(&raw.join("ms-cxr-t")), text(&raw.join("mimic-cxr-jpg")));
        let side = self.image_size.to_string();
        how.medst(&[
            "prepare",
            "ms-cxr-t",
            &pairs,
            "--images",
            &images,
            "--out",
            &text(corpus),
            "--image-size",
            &side,
        ])?;
        fs::remove_dir_all(&raw).with_context(|| text(&raw))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Draws and prepares the training cohort of a unit, if it does not exist yet.
pub fn training(study: &Study, unit: &Unit, how: &How) -> Result<PathBuf> {
    let cohort = study.cohort(unit)?;
    let corpus = how.work.join(study.cohort_name(unit)?);
    let (picture, image_size) = (cohort.picture, cohort.image_size);
    CohortSpec { subjects: cohort.subjects, seed: unit.seed, difficulty: &cohort.difficulty, picture, image_size }
        .studies(&corpus, how)?;
    Ok(corpus)
}

/// Draws and prepares the test cohorts of all runs, if they do not exist yet.
pub fn tests(study: &Study, how: &How) -> Result<Vec<Judged>> {
    let (picture, image_size) = (study.scale.cohort.picture, study.scale.cohort.image_size);
    let one = |test: &Test| {
        let folder = how.work.join(study.test_name(test));
        let judged = Judged { cohort: folder.join("cohort"), pairs: folder.join("pairs") };
        let drawn =
            CohortSpec { subjects: test.subjects, seed: test.seed, difficulty: &test.difficulty, picture, image_size };
        drawn.studies(&judged.cohort, how)?;
        CohortSpec { subjects: test.pair_subjects, seed: test.seed + PAIRS, ..drawn }.pairs(&judged.pairs, how)?;
        Ok(judged)
    };
    study.scale.tests.iter().map(one).collect()
}
