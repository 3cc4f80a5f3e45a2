//! Embeddings of files as Parquet or NPY.
//!
//! Parquet, one row per study: `study_id`, `subject_id`, `split`, `frontal`, `lateral` (paths),
//! `image_embedding` and `report_embedding` (lists of `D` float32, unit vectors), and where asked
//! for `image_feature`; what a study lacks is null. The columns that [`crate::embed::table`] writes
//! have the same names.
//!
//! NPY: `OUT.npy` with image embeddings `[n, D]`, next to it `OUT.reports.npy` and
//! `OUT.features.npy`, with rows of NaN where a study has none, and `OUT.csv`, which names the
//! study of each row.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use medst_data::files::whole;
use medst_data::gather::{FoundStudy, Gathered, LeftOut, Picture};
use medst_data::printable;
use medst_data::split::Split;
use parquet::arrow::ArrowWriter;
use serde::Serialize;

use super::stream::{Collected, NoteCounts};
use crate::embed::table::{FEATURE, IMAGE, REPORT, STUDY};
use crate::eval::Vectors;
use crate::{Error, Result};

/// What was embedded.
#[derive(Clone, Debug, Serialize)]
pub struct Embedded {
    pub files: Vec<PathBuf>,
    pub studies: usize,
    pub with_image: usize,
    pub with_report: usize,
    /// Embedding width, `D`.
    pub width: usize,
    /// Reports that are longer than the model's window.
    pub truncated: usize,
    pub left_out: Vec<LeftOut>,
    /// Pictures by what should be known of how they were read.
    pub notes: NoteCounts,
    /// Files of folders that are neither radiographs nor texts.
    pub ignored: usize,
}

impl fmt::Display for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Embedded { studies, with_image, with_report, width, truncated, ignored, .. } = self;
        let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        writeln!(
            f,
            "{}: {studies} studies, {with_image} with an image, {with_report} with a report, {width} values per \
             embedding",
            files.join(", ")
        )?;
        if *truncated > 0 {
            writeln!(f, "  {truncated} reports are longer than the model's maximum length and were cut off")?;
        }
        if *ignored > 0 {
            writeln!(f, "  {ignored} other files ignored")?;
        }
        write_remarks(f, &self.notes, &self.left_out)
    }
}

/// Writes how many pictures were read by which rule, in the words of `medst prepare`, and what was
/// left out.
pub fn write_remarks(f: &mut fmt::Formatter<'_>, notes: &NoteCounts, left_out: &[LeftOut]) -> fmt::Result {
    for (note, count) in notes {
        writeln!(f, "  {:8} {count:>7}  {note}", "note")?;
    }
    write_left_out(f, left_out)
}

/// Lists what was left out, with the reasons.
fn write_left_out(f: &mut fmt::Formatter<'_>, left_out: &[LeftOut]) -> fmt::Result {
    if left_out.is_empty() {
        return Ok(());
    }
    writeln!(f, "left out: {}", left_out.len())?;
    const SHOWN: usize = 20;
    for own in left_out.iter().take(SHOWN) {
        writeln!(f, "  {}: {}", own.file, own.reason)?;
    }
    match left_out.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => writeln!(f, "  and {more} more (--json lists all)"),
        _ => Ok(()),
    }
}

/// Writes a Parquet file, or NPY files where `out` ends so. Each appears whole or not at all.
///
/// # Errors
/// Nothing to write, or a file that cannot be written.
pub fn write(gathered: &Gathered, collected: &Collected, out: &Path) -> Result<Embedded> {
    let left_out: Vec<LeftOut> = gathered.left_out.iter().chain(&collected.left_out).cloned().collect();
    if collected.studies.is_empty() {
        let first =
            left_out.first().map(|own| format!("; the first: {}: {}", own.file, own.reason)).unwrap_or_default();
        return Err(Error::Evaluation(format!("no input could be embedded, {} left out{first}", left_out.len())));
    }
    let numpy = out.extension().is_some_and(|end| end == "npy");
    let files = if numpy { write_npy(gathered, collected, out)? } else { write_parquet(gathered, collected, out)? };
    Ok(Embedded {
        files,
        studies: collected.studies.len(),
        with_image: collected.images.len(),
        with_report: collected.reports.len(),
        width: collected.images.width().max(collected.reports.width()),
        truncated: collected.truncated,
        left_out,
        notes: collected.notes.clone(),
        ignored: gathered.ignored,
    })
}

/// Where a picture is, for a table.
fn path(picture: Option<&Picture>) -> Option<String> {
    match picture? {
        Picture::File(path) => Some(path.display().to_string()),
        Picture::Stored(_) => None,
    }
}

type Text = fn(&FoundStudy) -> Option<String>;
type Rows<'a> = (&'static str, &'a Vectors, &'a [Option<usize>]);

/// The text columns of a study.
const TEXTS: [(&str, Text); 5] = [
    (STUDY, |own| Some(own.id.clone())),
    ("subject_id", |own| own.subject.clone()),
    ("split", |own| own.split.map(Split::name).map(str::to_string)),
    ("frontal", |own| path(own.frontal.as_ref())),
    ("lateral", |own| path(own.lateral.as_ref())),
];

impl Collected {
    /// The kinds of vectors that there are.
    fn kinds(&self) -> Vec<Rows<'_>> {
        let mut kinds: Vec<Rows> = Vec::new();
        if !self.images.is_empty() {
            kinds.push((IMAGE, &self.images, &self.image_of));
        }
        if !self.reports.is_empty() {
            kinds.push((REPORT, &self.reports, &self.report_of));
        }
        if !self.features.is_empty() {
            kinds.push((FEATURE, &self.features, &self.image_of));
        }
        kinds
    }
}

fn write_parquet(gathered: &Gathered, collected: &Collected, out: &Path) -> Result<Vec<PathBuf>> {
    let fail =
        |error: parquet::errors::ParquetError| Error::Io { path: out.into(), source: std::io::Error::other(error) };
    let mut columns: Vec<(&str, ArrayRef, bool)> = Vec::new();
    for (name, text) in TEXTS {
        let mut column = StringBuilder::new();
        collected.studies.iter().for_each(|&n| column.append_option(text(&gathered.studies[n])));
        columns.push((name, Arc::new(column.finish()), name != STUDY));
    }
    for (name, vectors, place) in collected.kinds() {
        columns.push((name, lists(vectors, place), true));
    }
    let rows = RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length");
    let staged = whole::stage(out)?;
    let file = staged.reopen().map_err(Error::io(out))?;
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).map_err(fail)?;
    writer.write(&rows).map_err(fail)?;
    writer.close().map_err(fail)?;
    whole::publish(staged, out)?;
    Ok(vec![out.to_path_buf()])
}

fn lists(vectors: &Vectors, place: &[Option<usize>]) -> ArrayRef {
    let width = vectors.width();
    let mut column = FixedSizeListBuilder::new(Float32Builder::new(), width as i32);
    for place in place {
        match place {
            Some(row) => column.values().append_slice(vectors.row(*row)),
            None => column.values().append_nulls(width),
        }
        column.append(place.is_some());
    }
    Arc::new(column.finish())
}

fn write_npy(gathered: &Gathered, collected: &Collected, out: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (kind, vectors, place) in collected.kinds() {
        let file = match kind {
            IMAGE => out.to_path_buf(),
            REPORT => out.with_extension("reports.npy"),
            _ => out.with_extension("features.npy"),
        };
        let missing = vec![f32::NAN; vectors.width()];
        let rows = place.iter().map(|place| place.map_or(missing.as_slice(), |row| vectors.row(row)));
        whole::write(&file, &npy_bytes(place.len(), vectors.width(), rows))?;
        files.push(file);
    }
    let list = out.with_extension("csv");
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fail = |error: csv::Error| Error::Io { path: list.clone(), source: std::io::Error::other(error) };
    writer.write_record(std::iter::once("row").chain(TEXTS.iter().map(|(name, _)| *name))).map_err(fail)?;
    for (row, &number) in collected.studies.iter().enumerate() {
        let texts = TEXTS.iter().map(|(_, text)| text(&gathered.studies[number]).unwrap_or_default());
        let texts = texts.map(|text| printable::one_line(&text).into_owned());
        writer.write_record(std::iter::once(row.to_string()).chain(texts)).map_err(fail)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::io(&list)(error.into_error()))?;
    whole::write(&list, &bytes)?;
    files.push(list);
    Ok(files)
}

/// NumPy's format 1.0 of float32 `[rows, width]`.
pub(super) fn npy_bytes<'a>(count: usize, width: usize, rows: impl Iterator<Item = &'a [f32]>) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {width}), }}");
    // Data begin at a multiple of 64.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = Vec::with_capacity(10 + header.len() + 4 * count * width);
    bytes.extend_from_slice(b"\x93NUMPY\x01\x00");
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    rows.flatten().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numpy_files_come_back() {
        let vectors = Vectors::new((0..6).map(|n| n as f32 / 7.0).collect(), 3).unwrap();
        let bytes = npy_bytes(2, 3, vectors.rows());
        assert_eq!((bytes.len() - 24) % 64, 0);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        assert_eq!(Vectors::read_npy(file.path()).unwrap(), vectors);
    }
}
