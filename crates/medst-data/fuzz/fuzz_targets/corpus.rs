//! A corpus with one file replaced: the first byte selects the file, the rest is its content.
//! Everything that opens can be read.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use medst_data::corpus::Corpus;
use medst_data::import::{PrepareOptions, prepare_table};
use medst_phantom::{PhantomOptions, generate};
use medst_data::progress::Silent;

static SOUND: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let cohort = folder.path().join("cohort");
    generate(&cohort, &PhantomOptions { subjects: 3, size: 64, ..PhantomOptions::default() }, &Silent).unwrap();
    let options = PrepareOptions { image_size: 16, ..PrepareOptions::default() };
    prepare_table(&cohort.join("studies.csv"), &folder.path().join("corpus"), &options, &Silent).unwrap();
    folder
});

const FILES: [&str; 4] = ["corpus.json", "studies.parquet", "sequences.parquet", "images-00000.npy"];

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else { return };
    let sound = SOUND.path().join("corpus");
    let folder = tempfile::tempdir().unwrap();
    let name = FILES[usize::from(which) % FILES.len()];
    for other in FILES {
        fs::copy(sound.join(other), folder.path().join(other)).unwrap();
    }
    for other in ["skipped.csv", "splits.csv"] {
        fs::copy(sound.join(other), folder.path().join(other)).unwrap();
    }
    fs::write(folder.path().join(name), content).unwrap();
    if name != "corpus.json" {
        resize_record(folder.path(), name, content.len());
    }
    if let Ok(corpus) = Corpus::open(folder.path()) {
        for study in corpus.studies() {
            let images = [study.frontal].into_iter().chain(study.lateral).chain(study.alternative_frontals.clone());
            images.for_each(|image| assert_eq!(corpus.image(image).unwrap().len(), corpus.image_size() * corpus.image_size()));
        }
    }
});

/// Lets the manifest agree with the file's new size, so that its content is looked at.
fn resize_record(folder: &Path, name: &str, length: usize) {
    let path: PathBuf = folder.join("corpus.json");
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find(&format!("\"{name}\"")).unwrap();
    let at = start + text[start..].find("\"bytes\": ").unwrap() + 9;
    let end = at + text[at..].find(',').unwrap();
    fs::write(&path, format!("{}{length}{}", &text[..at], &text[end..])).unwrap();
}
