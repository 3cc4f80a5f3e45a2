//! Tables of embeddings: Parquet or NPY.
//!
//! Parquet, one row per study: `study_id`, `subject_id`, `split`, `frontal`, `lateral` (paths; null
//! for pictures of a corpus), `image_embedding` and `report_embedding` (lists of `D` float32, unit
//! vectors; a column only where some study has an image, or a report), and where asked for
//! `image_feature` (a list of `H` float32, the image encoder's `[CLS]` state); what a study lacks
//! is null. It is written while the model computes, because the embeddings of a corpus may not fit
//! into memory.
//!
//! NPY: `OUT.npy` with image embeddings `[n, D]`, next to it `OUT.reports.npy` and
//! `OUT.features.npy`, with rows of NaN where a study has none, and `OUT.csv`, which names the
//! study of each row.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use medst_data::files::whole;
use medst_data::gather::{FoundStudy, Gathered, LeftOut, PictureLocation};
use medst_data::parquet_table::{self, Cells, ColumnType, Field, Reader, Writer};
use medst_data::progress::Progress;
use medst_data::split::Split;
use medst_data::{input, printable};
use serde::Serialize;

use super::forward::EngineRef;
use super::stream::{self, Collected, EmbeddingOutputs, NoteCounts};
use super::vectors::Vectors;
use crate::{Error, Result};

/// The columns.
pub const STUDY: &str = "study_id";
pub const IMAGE: &str = "image_embedding";
pub const REPORT: &str = "report_embedding";
pub const FEATURE: &str = "image_feature";

/// Bytes of vectors that are held before they are written.
const HELD: usize = 1 << 27;

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
    for LeftOut { file, reason } in left_out.iter().take(SHOWN) {
        writeln!(f, "  {file}: {reason}")?;
    }
    match left_out.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => writeln!(f, "  and {more} more (--json lists all)"),
        _ => Ok(()),
    }
}

impl Embedded {
    fn new(gathered: &Gathered, width: usize) -> Embedded {
        Embedded {
            files: Vec::new(),
            studies: 0,
            with_image: 0,
            with_report: 0,
            width,
            truncated: 0,
            left_out: gathered.left_out.clone(),
            notes: NoteCounts::new(),
            ignored: gathered.ignored,
        }
    }

    fn count(&mut self, part: &Collected) {
        self.studies += part.studies.len();
        self.with_image += part.images.len();
        self.with_report += part.reports.len();
        self.truncated += part.truncated;
        self.left_out.extend_from_slice(&part.left_out);
        stream::add_notes(&mut self.notes, &part.notes);
    }

    fn check(&self) -> Result<()> {
        if self.studies > 0 {
            return Ok(());
        }
        let first =
            self.left_out.first().map(|left_out| format!("; the first: {}: {}", left_out.file, left_out.reason));
        let (count, first) = (self.left_out.len(), first.unwrap_or_default());
        Err(Error::Evaluation(format!("no input could be embedded, {count} left out{first}")))
    }
}

/// Embeds studies into a Parquet file, or into NPY files where `out` ends so. Each appears whole or
/// not at all.
///
/// * `features`: with the encoder's states.
///
/// # Errors
/// As [`stream::embed`]; nothing to write, or a file that cannot be written.
pub fn write<'a>(
    engine: impl Into<EngineRef<'a>>,
    gathered: &Gathered,
    out: &Path,
    features: bool,
    progress: &dyn Progress,
) -> Result<Embedded> {
    let engine = engine.into();
    let outputs = EmbeddingOutputs { features, ..EmbeddingOutputs::ALL };
    let mut embedded = Embedded::new(gathered, engine.width());
    if out.extension().is_some_and(|end| end == "npy") {
        let collected = stream::embed(engine, gathered, outputs, progress)?;
        embedded.count(&collected);
        embedded.check()?;
        embedded.files = write_npy(gathered, &collected, out)?;
        return Ok(embedded);
    }
    let has_image = gathered.studies.iter().any(FoundStudy::is_seen);
    let has_report = gathered.studies.iter().any(|study| study.report.is_some());
    let columns = [(IMAGE, has_image), (REPORT, has_report), (FEATURE, has_image && features)];
    let columns: Vec<&str> = columns.into_iter().filter_map(|(name, there)| there.then_some(name)).collect();
    let texts = TEXTS.iter().map(|(name, _)| match *name {
        STUDY => Field::required(name, ColumnType::Text),
        name => Field::optional(name, ColumnType::Text),
    });
    let fields: Vec<Field> =
        texts.chain(columns.iter().map(|name| Field::optional(name, ColumnType::Vector))).collect();
    let staged = whole::stage(out)?;
    let fail = |error: parquet_table::Error| Error::Io { path: out.into(), source: std::io::Error::other(error) };
    let mut writer = Writer::new(staged.reopen().map_err(Error::io(out))?, &fields, false).map_err(fail)?;
    let (mut held, mut bytes) = (Vec::new(), 0);
    progress.begin("embedding", Some(gathered.studies.len() as u64));
    stream::each_part(engine, &stream::inputs(gathered), outputs, progress, |part| {
        part.check_finite()?;
        embedded.count(&part);
        bytes += part.bytes();
        held.push(part);
        if bytes > HELD {
            write_rows(&mut writer, gathered, &held, &columns).map_err(fail)?;
            (held, bytes) = (Vec::new(), 0);
        }
        Ok(())
    })?;
    embedded.check()?;
    if !held.is_empty() {
        write_rows(&mut writer, gathered, &held, &columns).map_err(fail)?;
    }
    writer.finish().map_err(fail)?;
    whole::publish(staged, out)?;
    progress.end();
    embedded.files = vec![out.to_path_buf()];
    Ok(embedded)
}

/// Where a picture is, for a table.
fn path(picture: Option<&PictureLocation>) -> Option<String> {
    match picture? {
        PictureLocation::File(path) => Some(path.display().to_string()),
        PictureLocation::Stored(_) => None,
    }
}

type Text = fn(&FoundStudy) -> Option<String>;
type Rows<'a> = (&'static str, &'a Vectors, &'a [Option<usize>]);

/// The text columns of a study.
const TEXTS: [(&str, Text); 5] = [
    (STUDY, |study| Some(study.id.clone())),
    ("subject_id", |study| study.subject.clone()),
    ("split", |study| study.split.map(Split::name).map(str::to_string)),
    ("frontal", |study| path(study.frontal.as_ref())),
    ("lateral", |study| path(study.lateral.as_ref())),
];

impl Collected {
    /// Size of the vectors.
    fn bytes(&self) -> usize {
        let values = [&self.images, &self.reports, &self.features].map(|vectors| vectors.values().len());
        values.iter().sum::<usize>() * size_of::<f32>()
    }

    /// A column of vectors by its name.
    fn column(&self, name: &'static str) -> Rows<'_> {
        match name {
            IMAGE => (name, &self.images, &self.image_of),
            REPORT => (name, &self.reports, &self.report_of),
            _ => (name, &self.features, &self.image_of),
        }
    }
}

/// Writes the rows of parts as a row group, with columns of vectors.
fn write_rows(
    writer: &mut Writer<File>,
    gathered: &Gathered,
    parts: &[Collected],
    vectors: &[&'static str],
) -> parquet_table::Result<()> {
    let studies = || parts.iter().flat_map(|part| &part.studies).map(|&number| &gathered.studies[number]);
    let texts: Vec<Vec<Option<String>>> = TEXTS.iter().map(|(_, text)| studies().map(text).collect()).collect();
    let texts = texts.iter().map(|column| Cells::Text(column.iter().map(Option::as_deref).collect()));
    let vectors = vectors.iter().map(|&name| {
        let rows = parts.iter().flat_map(|part| {
            let (_, vectors, row_of) = part.column(name);
            row_of.iter().map(move |row| row.map(|row| vectors.row(row)))
        });
        Cells::Vector(rows.collect())
    });
    writer.write(&texts.chain(vectors).collect::<Vec<_>>())
}

fn write_npy(gathered: &Gathered, collected: &Collected, out: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let all = [IMAGE, REPORT, FEATURE].map(|name| collected.column(name));
    for (name, vectors, row_of) in all.into_iter().filter(|(_, vectors, _)| !vectors.is_empty()) {
        let file = match name {
            IMAGE => out.to_path_buf(),
            REPORT => out.with_extension("reports.npy"),
            _ => out.with_extension("features.npy"),
        };
        let missing = vec![f32::NAN; vectors.width()];
        let rows = row_of.iter().map(|row| row.map_or(missing.as_slice(), |row| vectors.row(row)));
        whole::write(&file, &npy_bytes(row_of.len(), vectors.width(), rows))?;
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

/// Rows of a Parquet file of vectors.
#[derive(Clone, Debug, Default)]
pub struct Keyed {
    /// What each row is of.
    pub keys: Vec<String>,
    /// For each column that was asked for its vectors; `None` where the file lacks the column.
    pub columns: Vec<Option<Vec<Option<Vec<f32>>>>>,
}

/// Reads vectors that any program wrote: lists (of any or of fixed size) of numbers, with a key
/// column of text or whole numbers. Empty elements are read as NaN.
///
/// # Errors
/// A file that is not Parquet, or lacks the key; columns of other types.
pub fn read(path: &Path, key: &str, wanted: &[&str]) -> Result<Keyed> {
    let fail = |message: String| Error::Evaluation(format!("{}: {message}", path.display()));
    let file = input::open(path).map_err(Error::io(path))?;
    let table = Reader::new(file).map_err(|error| fail(format!("not a usable Parquet file: {error}")))?;
    let names: Vec<&str> = table.names().collect();
    if !names.contains(&key) {
        return Err(fail(format!("has no column {key}; its columns are {}", names.join(", "))));
    }
    let damaged = |error: parquet_table::Error| match error {
        parquet_table::Error::Type { .. } => fail(error.to_string()),
        error => fail(format!("damaged: {error}")),
    };
    let columns = wanted.iter().map(|name| names.contains(name).then(Vec::new)).collect();
    let mut read = Keyed { keys: Vec::new(), columns };
    for group in table.groups() {
        let group = group.map_err(damaged)?;
        read.keys.extend(group.keys(key).map_err(damaged)?.into_iter().map(Option::unwrap_or_default));
        for (name, rows) in wanted.iter().zip(&mut read.columns) {
            if let Some(rows) = rows {
                rows.extend(group.vectors(name).map_err(damaged)?);
            }
        }
    }
    Ok(read)
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
