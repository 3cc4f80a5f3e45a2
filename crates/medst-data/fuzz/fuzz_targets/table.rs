//! Tables of images and split files of any bytes: CSV, gzipped CSV, Parquet.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use medst_data::import::splits::SplitFile;
use medst_data::import::{PrepareOptions, Source};
use medst_data::progress::Silent;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let _ = SplitFile::read(file.path());
    let source = Source::Table(file.path().to_path_buf());
    if let Ok(planned) = source.plan(&PrepareOptions::default(), &Silent) {
        assert!(planned.plan.studies.iter().all(|study| !study.frontals.is_empty() || !study.laterals.is_empty()));
    }
});
