//! `studies.parquet` and `sequences.parquet`, and the names of the other tables.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use crate::parquet_table::{Cells, ColumnType, Field, Group, Reader, Writer};
use crate::sequence::Sequence;
use crate::split::Split;
use crate::study::{Day, ImageIndex, Study, StudyId, SubjectId};
use crate::{Error, Result, input, json, parquet_table};

pub const STUDIES: &str = "studies.parquet";
pub const SEQUENCES: &str = "sequences.parquet";
/// Rows and files that were left out.
pub const SKIPPED: &str = "skipped.csv";
/// The part of every study, to be published and read again with `--splits`.
pub const SPLITS: &str = "splits.csv";

/// Rows of a row group.
const BATCH: usize = 65_536;

/// Writes one row per study.
pub fn write_studies(path: &Path, studies: &[Study]) -> Result<()> {
    const FIELDS: [Field<'_>; 9] = [
        Field::required("subject_id", ColumnType::Text),
        Field::required("study_id", ColumnType::Text),
        Field::optional("acquired", ColumnType::Double),
        Field::required("split", ColumnType::Text),
        Field::required("frontal", ColumnType::Number),
        Field::required("alternative_frontals", ColumnType::Numbers),
        Field::optional("lateral", ColumnType::Number),
        Field::optional("report", ColumnType::Text),
        Field::required("labels", ColumnType::Text),
    ];
    write(path, &FIELDS, studies, |writer, studies| {
        let rows = studies.iter();
        let labels: Vec<String> = rows.clone().map(|row| json::text(&row.labels)).collect();
        let alternatives = rows.clone().map(|row| row.alternative_frontals.iter().map(|image| image.0).collect());
        let alternatives: Vec<Vec<u32>> = alternatives.collect();
        writer.write(&[
            Cells::Text(rows.clone().map(|row| Some(row.subject.0.as_str())).collect()),
            Cells::Text(rows.clone().map(|row| Some(row.study.0.as_str())).collect()),
            Cells::Double(rows.clone().map(|row| row.acquired.map(|day| day.0)).collect()),
            Cells::Text(rows.clone().map(|row| Some(row.split.name())).collect()),
            Cells::Number(rows.clone().map(|row| Some(row.frontal.0)).collect()),
            Cells::Numbers(alternatives.iter().map(|images| Some(images.as_slice())).collect()),
            Cells::Number(rows.clone().map(|row| row.lateral.map(|image| image.0)).collect()),
            Cells::Text(rows.map(|row| row.report.as_deref()).collect()),
            Cells::Text(labels.iter().map(|labels| Some(labels.as_str())).collect()),
        ])
    })
}

/// Writes one row per sequence.
pub fn write_sequences(path: &Path, sequences: &[Sequence]) -> Result<()> {
    const FIELDS: [Field<'_>; 4] = [
        Field::required("sequence_id", ColumnType::Number),
        Field::required("subject_id", ColumnType::Text),
        Field::required("split", ColumnType::Text),
        Field::required("studies", ColumnType::Numbers),
    ];
    let mut ids = 0..;
    write(path, &FIELDS, sequences, |writer, sequences| {
        let rows = sequences.iter();
        writer.write(&[
            Cells::Number(ids.by_ref().take(sequences.len()).map(Some).collect()),
            Cells::Text(rows.clone().map(|row| Some(row.subject.0.as_str())).collect()),
            Cells::Text(rows.clone().map(|row| Some(row.split.name())).collect()),
            Cells::Numbers(rows.map(|row| Some(row.studies.as_slice())).collect()),
        ])
    })
}

/// * `group`: writes some rows.
fn write<T>(
    path: &Path,
    fields: &[Field<'_>],
    rows: &[T],
    mut group: impl FnMut(&mut Writer<File>, &[T]) -> parquet_table::Result<()>,
) -> Result<()> {
    let fail = |message: String| Error::Corpus { path: path.to_path_buf(), message };
    if rows.is_empty() {
        return Err(fail("nothing to write".into()));
    }
    let file = File::create(path).map_err(Error::io(path))?;
    let written = Writer::new(file, fields, true).and_then(|mut writer| {
        rows.chunks(BATCH).try_for_each(|rows| group(&mut writer, rows))?;
        writer.finish()
    });
    let file = written.map_err(|error| fail(format!("could not be written: {error}")))?;
    file.sync_all().map_err(Error::io(path))
}

/// Reads what [`write_studies`] wrote.
pub fn read_studies(path: &Path) -> Result<Vec<Study>> {
    let mut studies = Vec::new();
    each_group(path, |columns| {
        let text = |name| columns.get(move |group| group.texts(name));
        let (mut subject, mut study, mut split) = (text("subject_id")?, text("study_id")?, text("split")?);
        let (mut report, mut labels) = (text("report")?, text("labels")?);
        let mut frontal = columns.get(|group| group.numbers("frontal"))?;
        let mut lateral = columns.get(|group| group.numbers("lateral"))?;
        let mut acquired = columns.get(|group| group.doubles("acquired"))?;
        let mut alternatives = columns.get(|group| group.number_lists("alternative_frontals"))?;
        for _ in 0..columns.group.rows() {
            let labels: BTreeMap<String, String> = serde_json::from_str(&required(&mut labels))
                .map_err(|error| columns.fail(format!("labels: {error}")))?;
            studies.push(Study {
                subject: SubjectId(required(&mut subject)),
                study: StudyId(required(&mut study)),
                acquired: acquired.next().flatten().map(Day),
                split: columns.split(&required(&mut split))?,
                frontal: ImageIndex(required(&mut frontal)),
                alternative_frontals: required(&mut alternatives).into_iter().map(ImageIndex).collect(),
                lateral: lateral.next().flatten().map(ImageIndex),
                report: report.next().flatten(),
                labels,
            });
        }
        Ok(())
    })?;
    Ok(studies)
}

/// Reads what [`write_sequences`] wrote.
pub fn read_sequences(path: &Path) -> Result<Vec<Sequence>> {
    let mut sequences = Vec::new();
    each_group(path, |columns| {
        let mut subject = columns.get(|group| group.texts("subject_id"))?;
        let mut split = columns.get(|group| group.texts("split"))?;
        let mut studies = columns.get(|group| group.number_lists("studies"))?;
        for _ in 0..columns.group.rows() {
            sequences.push(Sequence {
                subject: SubjectId(required(&mut subject)),
                split: columns.split(&required(&mut split))?,
                studies: required(&mut studies),
            });
        }
        Ok(())
    })?;
    Ok(sequences)
}

/// The next cell of a column without empty ones.
fn required<V: Default>(cells: &mut impl Iterator<Item = Option<V>>) -> V {
    cells.next().flatten().unwrap_or_default()
}

/// A row group of a file.
struct Columns<'a> {
    path: &'a Path,
    group: Group<'a>,
}

fn each_group(path: &Path, mut visit: impl FnMut(Columns<'_>) -> Result<()>) -> Result<()> {
    let fail = |message: String| Error::Corpus { path: path.to_path_buf(), message };
    let file = input::open(path).map_err(Error::io(path))?;
    let table = Reader::new(file).map_err(|error| fail(format!("not readable as Parquet: {error}")))?;
    for group in table.groups() {
        visit(Columns { path, group: group.map_err(|error| fail(error.to_string()))? })?;
    }
    Ok(())
}

impl Columns<'_> {
    fn fail(&self, message: String) -> Error {
        Error::Corpus { path: self.path.to_path_buf(), message }
    }

    fn get<V>(
        &self,
        read: impl FnOnce(&Group<'_>) -> parquet_table::Result<Vec<Option<V>>>,
    ) -> Result<std::vec::IntoIter<Option<V>>> {
        Ok(read(&self.group).map_err(|error| self.fail(error.to_string()))?.into_iter())
    }

    fn split(&self, name: &str) -> Result<Split> {
        Split::parse(name).ok_or_else(|| self.fail(format!("unknown split `{name}`")))
    }
}
