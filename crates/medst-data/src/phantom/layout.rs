//! Writing a cohort as a table of images (the columns of [`crate::import::table`]), with the truth beside it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use rayon::prelude::*;

use super::cohort::{Patient, Picture};
use super::finding::Finding;
use super::{PhantomOptions, PhantomSummary};
use crate::progress::Progress;
use crate::{Error, Result};

/// Patients drawn between two looks at the stop request.
const BLOCK: u32 = 64;

/// Rows of the two tables, of one patient.
#[derive(Default)]
struct Rows {
    studies: Vec<Vec<String>>,
    truth: Vec<Vec<String>>,
}

pub const IMAGES: &str = "images";
pub const STUDIES: &str = "studies.csv";
pub const TRUTH: &str = "truth.csv";

const TRUTH_COLUMNS: [&str; 20] = [
    "subject_id",
    "study_id",
    "day",
    "finding",
    "present",
    "side",
    "zone",
    "severity",
    "change",
    "visible_on_frontal",
    "visible_on_lateral",
    "mentioned",
    "frontal_left",
    "frontal_top",
    "frontal_right",
    "frontal_bottom",
    "lateral_left",
    "lateral_top",
    "lateral_right",
    "lateral_bottom",
];

/// Writes pictures and tables into an existing empty folder.
pub fn write(out: &Path, options: &PhantomOptions, progress: &dyn Progress) -> Result<PhantomSummary> {
    let columns: Vec<&str> = ["subject_id", "study_id", "day", "view", "image", "report", "split"]
        .into_iter()
        .chain(Finding::ALL.map(Finding::name))
        .collect();
    let (mut studies, mut truth) = (table(&out.join(STUDIES))?, table(&out.join(TRUTH))?);
    write_row(&mut studies, out, &columns)?;
    write_row(&mut truth, out, &TRUTH_COLUMNS)?;
    let mut summary =
        PhantomSummary { folder: out.to_path_buf(), subjects: options.subjects, ..PhantomSummary::default() };
    progress.begin("drawing patients", Some(options.subjects.into()));
    for start in (0..options.subjects).step_by(BLOCK as usize) {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let block: Vec<Result<(Patient, Rows)>> = (start..(start + BLOCK).min(options.subjects))
            .into_par_iter()
            .map(|number| {
                let patient = Patient::draw(options.seed, number);
                let rows = write_patient(out, &patient, options.size as usize)?;
                progress.advance(1);
                Ok((patient, rows))
            })
            .collect();
        for drawn in block {
            let (patient, rows) = drawn?;
            summary.studies += patient.visits.len();
            summary.laterals += patient.visits.iter().filter(|visit| visit.has_lateral).count();
            summary.images += rows.studies.len();
            for row in &rows.studies {
                write_row(&mut studies, out, row)?;
            }
            for row in &rows.truth {
                write_row(&mut truth, out, row)?;
            }
        }
    }
    for table in [studies, truth] {
        let mut file = table.into_inner().map_err(|error| Error::Usage(error.to_string()))?;
        file.flush().map_err(Error::io(out))?;
    }
    progress.end();
    Ok(summary)
}

type Table = csv::Writer<BufWriter<File>>;

fn table(path: &Path) -> Result<Table> {
    Ok(csv::Writer::from_writer(BufWriter::new(File::create(path).map_err(Error::io(path))?)))
}

fn write_row(table: &mut Table, out: &Path, row: &[impl AsRef<str>]) -> Result<()> {
    let written = table.write_record(row.iter().map(AsRef::as_ref));
    written.map_err(|error| Error::Table { path: out.to_path_buf(), message: error.to_string() })
}

fn write_patient(out: &Path, patient: &Patient, size: usize) -> Result<Rows> {
    let subject = format!("p{:05}", patient.number);
    let folder = out.join(IMAGES).join(&subject);
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let mut rows = Rows::default();
    for (number, visit) in patient.visits.iter().enumerate() {
        let study = format!("{subject}-v{}", number + 1);
        let present = patient.present(number);
        let labels = Finding::ALL.map(|finding| {
            let there = present.iter().any(|(_, present)| present.finding == finding);
            u8::from(there).to_string()
        });
        let mut add = |name: &str, view: &str, picture: &Picture| {
            let image = format!("{IMAGES}/{subject}/{study}_{name}.png");
            write_png(&out.join(&image), picture)?;
            let day = visit.day.to_string();
            let mut row =
                [&subject, &study, &day, view, &image, &visit.report, patient.split.name()].map(String::from).to_vec();
            row.extend(labels.clone());
            rows.studies.push(row);
            Ok(())
        };
        let frontal = patient.frontal(number, size);
        add("frontal", if visit.has_lateral { "PA" } else { "AP" }, &frontal)?;
        let lateral = if visit.has_lateral {
            let lateral = patient.lateral(number, size);
            add("lateral", "LATERAL", &lateral)?;
            Some(lateral)
        } else {
            None
        };
        for finding in Finding::ALL {
            let course = patient.courses.iter().find(|course| course.finding == finding);
            let place = present.iter().position(|(_, present)| present.finding == finding);
            let shown = place.map(|place| &present[place].1);
            let mut row = vec![subject.clone(), study.clone(), visit.day.to_string(), finding.name().into()];
            row.push(u8::from(shown.is_some()).to_string());
            row.push(shown.map_or("", |present| present.side.name()).into());
            row.push(
                shown.filter(|present| present.finding.has_side()).map_or("", |present| present.zone.name()).into(),
            );
            row.push(course.map_or("0.000".into(), |course| format!("{:.3}", course.severities[number])));
            let unaffected = if number == 0 { "first" } else { "absent" };
            row.push(course.map_or(unaffected, |course| course.change(number).name()).into());
            row.push(u8::from(shown.is_some_and(|present| present.visible_on_frontal())).to_string());
            row.push(u8::from(shown.is_some_and(|present| present.visible_on_lateral())).to_string());
            row.push(u8::from(visit.mentioned.contains(&finding)).to_string());
            for picture in [Some(&frontal), lateral.as_ref()] {
                let bounds = place.and_then(|place| picture?.boxes[place]);
                row.extend((0..4).map(|side| bounds.map_or(String::new(), |bounds| bounds[side].to_string())));
            }
            rows.truth.push(row);
        }
    }
    Ok(rows)
}

/// Writes an 8-bit grey PNG.
///
/// # Errors
/// A file that cannot be created or written to its end.
pub fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let encoded = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&picture.pixels)?;
        writer.finish()
    });
    encoded.map_err(|error| Error::Io { path: path.to_path_buf(), source: std::io::Error::other(error) })?;
    // One write of a whole file: a buffer flushed on drop would hide that the disk is full.
    fs::write(path, &bytes).map_err(Error::io(path))
}
