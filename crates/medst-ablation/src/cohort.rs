//! The phantom cohorts of a seed: one to learn from and to be judged on, one in the layout of MS-CXR-T. Every seed has patients of its
//! own, so that what is concluded is not about one lucky cohort.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::study::Study;
use crate::unit::How;

/// Prepared corpora: `[cohort, benchmark]`.
pub type Corpora = [PathBuf; 2];

/// Told apart from those of the cohort.
const BENCHMARK_SEED: u64 = 100_000;

/// Where the corpora of a seed are, or will be.
pub fn corpora(study: &Study, seed: u64, work: &Path) -> Corpora {
    let folder = work.join(study.cohort_name(seed));
    ["cohort", "ms-cxr-t"].map(|name| folder.join(name))
}

/// Draws and prepares what is not there yet.
pub fn prepare(study: &Study, seed: u64, how: &How) -> Result<Corpora> {
    let corpora = corpora(study, seed, &how.work);
    let cohort = &study.scale.cohort;
    let text = |path: &Path| path.display().to_string();
    let draw = |out: &Path, subjects: usize, seed: u64, layout: &str| {
        if out.exists() {
            fs::remove_dir_all(out).with_context(|| text(out))?;
        }
        let (subjects, seed, size) = (subjects.to_string(), seed.to_string(), cohort.picture.to_string());
        how.medst(&[
            "phantom",
            &text(out),
            "--subjects",
            &subjects,
            "--seed",
            &seed,
            "--size",
            &size,
            "--difficulty",
            &cohort.difficulty,
            "--layout",
            layout,
        ])
        .map(drop)
    };
    let side = cohort.image_size.to_string();
    let done = |corpus: &Path| corpus.join("corpus.json").exists();
    if !done(&corpora[0]) {
        let raw = corpora[0].with_extension("raw");
        draw(&raw, cohort.subjects, seed, "table")?;
        let table = text(&raw.join("studies.csv"));
        how.medst(&["prepare", "table", &table, "--out", &text(&corpora[0]), "--image-size", &side])?;
        fs::remove_dir_all(&raw).with_context(|| text(&raw))?;
    }
    if !done(&corpora[1]) {
        let raw = corpora[1].with_extension("raw");
        draw(&raw, cohort.benchmark_subjects, seed + BENCHMARK_SEED, "mimic-cxr-jpg,ms-cxr-t")?;
        let (pairs, images) = (text(&raw.join("ms-cxr-t")), text(&raw.join("mimic-cxr-jpg")));
        let out = text(&corpora[1]);
        how.medst(&["prepare", "ms-cxr-t", &pairs, "--images", &images, "--out", &out, "--image-size", &side])?;
        fs::remove_dir_all(&raw).with_context(|| text(&raw))?;
    }
    Ok(corpora)
}
