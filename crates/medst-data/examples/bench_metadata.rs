//! Times the assembly of a metadata set of MIMIC-CXR's form and any size: tables and reports are
//! synthesised, studies, splits, labels, reports and sequences are put together, no picture is
//! read.
//!
//! `cargo run --release -p medst-data --example bench_metadata -- [STUDIES]`
//!
//! Prints one JSON object: counts, seconds, and the peak resident memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use medst_data::import::mimic_cxr::MimicCxr;
use medst_data::import::{PrepareOptions, Source};
use medst_data::progress::Silent;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The tables are written by a separate process, so that their memory is not counted.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [write, folder, studies] = arguments.as_slice()
        && write == "--write"
    {
        return synthesise(Path::new(folder), studies.parse()?);
    }
    let studies = arguments.first().map_or("400000", String::as_str);
    let folder = tempfile::tempdir()?;
    let written = std::process::Command::new(std::env::current_exe()?)
        .args(["--write", &folder.path().display().to_string(), studies])
        .status()?;
    assert!(written.success(), "the tables could not be written");
    let source = Source::MimicCxr(MimicCxr { root: folder.path().to_path_buf(), ..MimicCxr::default() });
    let start = Instant::now();
    let plan = source.plan(&PrepareOptions::default(), &Silent)?.plan;
    let seconds = start.elapsed().as_secs_f64();
    let images: usize = plan.studies.iter().map(|study| study.frontals.len() + study.laterals.len()).sum();
    let with_report = plan.studies.iter().filter(|study| study.report.is_some()).count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB").trim().trim_end_matches(" kB");
    let gib = peak.parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    println!(
        "{{\"studies\": {}, \"images\": {images}, \"with_report\": {with_report}, \"seconds\": {seconds:.2}, \"peak_gib\": {gib:.3}}}",
        plan.studies.len()
    );
    Ok(())
}

/// About three studies per subject and 1.7 images per study, as in MIMIC-CXR.
fn synthesise(folder: &Path, studies: u32) -> Result<(), Box<dyn std::error::Error>> {
    let table = |name: &str| -> std::io::Result<_> {
        let file = BufWriter::new(File::create(folder.join(format!("mimic-cxr-2.0.0-{name}.csv.gz")))?);
        Ok(GzEncoder::new(file, Compression::fast()))
    };
    let [mut metadata, mut split, mut labels] = [table("metadata")?, table("split")?, table("chexpert")?];
    writeln!(
        metadata,
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime"
    )?;
    writeln!(split, "dicom_id,study_id,subject_id,split")?;
    let findings = [
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Enlarged Cardiomediastinum",
        "Fracture",
        "Lung Lesion",
        "Lung Opacity",
        "No Finding",
        "Pleural Effusion",
        "Pleural Other",
        "Pneumonia",
        "Pneumothorax",
        "Support Devices",
    ];
    writeln!(labels, "subject_id,study_id,{}", findings.join(","))?;
    let mut zip = zip::ZipWriter::new(BufWriter::new(File::create(folder.join("mimic-cxr-reports.zip"))?));
    let options = zip::write::SimpleFileOptions::default().compression_level(Some(1));
    for number in 0..studies {
        let (subject, study) = (10_000_000 + number / 3, 50_000_000 + number);
        let part = ["train", "validate", "test"][usize::from(subject % 50 == 0) + usize::from(subject % 100 == 0)];
        for image in 0..1 + number % 2 + u32::from(number % 5 == 0) {
            let dicom = format!("{number:08x}-bde0afdd-112c0b34-7bc16630-{image:08x}");
            let view = ["PA", "LATERAL", "AP"][image as usize];
            let (year, day) = (2110 + number % 90, 1 + number % 28);
            writeln!(
                metadata,
                "{dicom},{subject},{study},CHEST (PA AND LAT),{view},3056,2544,{year}05{day:02},213014.531"
            )?;
            writeln!(split, "{dicom},{study},{subject},{part}")?;
        }
        let cells: Vec<&str> =
            (0..14).map(|finding| ["", "1.0", "", "0.0", "-1.0"][(number as usize + finding * 7) % 5]).collect();
        writeln!(labels, "{subject},{study},{}", cells.join(","))?;
        zip.start_file(format!("files/p{}/p{subject}/s{study}.txt", subject / 1_000_000), options)?;
        write!(
            zip,
            "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___-year-old with \
             new onset ascites  // eval for infection\n \n TECHNIQUE:  Chest PA and lateral\n \n COMPARISON:  None.\n \n FINDINGS: \n \n \
             There is no focal consolidation, pleural effusion or pneumothorax number {number}.\n Bilateral nodular opacities that most \
             likely represent nipple shadows. The\n cardiomediastinal silhouette is normal.  Clips project over the left lung,\n \
             potentially within the breast. The imaged upper abdomen is unremarkable.\n Chronic deformity of the posterior left sixth \
             and seventh ribs are noted.\n \n IMPRESSION: \n \n No acute cardiopulmonary process.\n"
        )?;
    }
    for table in [metadata, split, labels] {
        table.finish()?.flush()?;
    }
    zip.finish()?.flush()?;
    Ok(())
}
