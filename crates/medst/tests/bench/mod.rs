//! A small phantom corpus, and configurations for it.

pub mod beyond;

use medst_data::corpus::Corpus;
use medst_data::import::{PrepareOptions, prepare_table};
use medst_data::progress::Silent;
use medst_model::config::Config;
use medst_phantom::{PhantomOptions, generate};

/// A corpus of small pictures in a temporary folder, and a configuration for it.
pub struct Bench {
    pub folder: tempfile::TempDir,
}

impl Bench {
    pub fn new(subjects: u32) -> Bench {
        Bench::with_pictures(subjects, 64)
    }

    /// Pictures of `side` pixels.
    pub fn with_pictures(subjects: u32, side: usize) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let cohort = folder.path().join("cohort");
        generate(
            &cohort,
            &PhantomOptions { subjects, seed: 3, size: side as u32 + 32, ..PhantomOptions::default() },
            &Silent,
        )
        .unwrap();
        let options = PrepareOptions { image_size: side, ..PrepareOptions::default() };
        prepare_table(&cohort.join("studies.csv"), &folder.path().join("corpus"), &options, &Silent).unwrap();
        Bench { folder }
    }

    pub fn config(&self, run: &str, overrides: &[&str]) -> Config {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let text = format!(
            "[data]\ncorpus = '{}'\n[train]\noutput = '{}'\nepochs = 2\nsequences_per_batch = 4\n\
             [model.image]\nsize = 48\npatch = 16\nhidden_size = 32\nnum_layers = 2\nnum_heads = 2\nintermediate_size = 64\n\
             [model.text]\nhidden_size = 32\nnum_layers = 1\nnum_heads = 2\nintermediate_size = 64\n\
             [model.projection]\nhidden = 48\nembedding = 32\n[optimizer]\nlr = 1e-3\n",
            at("corpus"),
            at(run)
        );
        Config::parse(&text, &overrides.iter().map(|text| text.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[allow(dead_code, reason = "not every test program opens the corpus itself")]
    pub fn corpus(&self) -> Corpus {
        Corpus::open(&self.folder.path().join("corpus")).unwrap()
    }
}
