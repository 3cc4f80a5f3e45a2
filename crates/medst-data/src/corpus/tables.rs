//! `studies.parquet` and `sequences.parquet`, and the names of the other tables.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Float64Builder, ListBuilder, StringBuilder, UInt32Builder};
use arrow_array::{Array, ArrayRef, Float64Array, ListArray, RecordBatch, StringArray, UInt32Array};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::sequence::Sequence;
use crate::split::Split;
use crate::study::{Day, ImageIndex, Study, StudyId, SubjectId};
use crate::{Error, Result, input, json};

pub const STUDIES: &str = "studies.parquet";
pub const SEQUENCES: &str = "sequences.parquet";
/// Rows and files that were left out.
pub const SKIPPED: &str = "skipped.csv";
/// The part of every study, to be published and read again with `--splits`.
pub const SPLITS: &str = "splits.csv";

/// Rows of one record batch.
const BATCH: usize = 65_536;

/// Writes one row per study.
pub fn write_studies(path: &Path, studies: &[Study]) -> Result<()> {
    write(path, studies.chunks(BATCH).map(study_batch))
}

fn study_batch(studies: &[Study]) -> RecordBatch {
    let mut text = [(); 5].map(|()| StringBuilder::new());
    let [subject, study, split, report, labels] = &mut text;
    let (mut acquired, mut frontal, mut lateral) = (Float64Builder::new(), UInt32Builder::new(), UInt32Builder::new());
    let mut alternatives = ListBuilder::new(UInt32Builder::new());
    for row in studies {
        subject.append_value(&row.subject.0);
        study.append_value(&row.study.0);
        acquired.append_option(row.acquired.map(|day| day.0));
        split.append_value(row.split.name());
        frontal.append_value(row.frontal.0);
        alternatives.append_value(row.alternative_frontals.iter().map(|image| Some(image.0)));
        lateral.append_option(row.lateral.map(|image| image.0));
        report.append_option(row.report.as_deref());
        labels.append_value(json::text(&row.labels));
    }
    let [mut subject, mut study, mut split, mut report, mut labels] = text;
    let columns: [(&str, ArrayRef, bool); 9] = [
        ("subject_id", Arc::new(subject.finish()), false),
        ("study_id", Arc::new(study.finish()), false),
        ("acquired", Arc::new(acquired.finish()), true),
        ("split", Arc::new(split.finish()), false),
        ("frontal", Arc::new(frontal.finish()), false),
        ("alternative_frontals", Arc::new(alternatives.finish()), false),
        ("lateral", Arc::new(lateral.finish()), true),
        ("report", Arc::new(report.finish()), true),
        ("labels", Arc::new(labels.finish()), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Writes one row per sequence.
pub fn write_sequences(path: &Path, sequences: &[Sequence]) -> Result<()> {
    let mut next = 0;
    let batches = sequences.chunks(BATCH).map(|sequences| {
        let (mut id, mut subject, mut split) = (UInt32Builder::new(), StringBuilder::new(), StringBuilder::new());
        let mut studies = ListBuilder::new(UInt32Builder::new());
        for row in sequences {
            id.append_value(next);
            next += 1;
            subject.append_value(&row.subject.0);
            split.append_value(row.split.name());
            studies.append_value(row.studies.iter().map(|&study| Some(study)));
        }
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("sequence_id", Arc::new(id.finish()), false),
            ("subject_id", Arc::new(subject.finish()), false),
            ("split", Arc::new(split.finish()), false),
            ("studies", Arc::new(studies.finish()), false),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
    });
    write(path, batches)
}

fn write(path: &Path, batches: impl Iterator<Item = RecordBatch>) -> Result<()> {
    let fail = |error: parquet::errors::ParquetError| Error::Corpus {
        path: path.to_path_buf(),
        message: format!("could not be written: {error}"),
    };
    let mut batches = batches.peekable();
    let Some(first) = batches.peek() else {
        return Err(Error::Corpus { path: path.to_path_buf(), message: "nothing to write".into() });
    };
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let file = File::create(path).map_err(Error::io(path))?;
    let mut writer = ArrowWriter::try_new(file, first.schema(), Some(properties)).map_err(fail)?;
    for batch in batches {
        writer.write(&batch).map_err(fail)?;
    }
    writer.into_inner().map_err(fail)?.sync_all().map_err(Error::io(path))
}

/// Reads what [`write_studies`] wrote.
pub fn read_studies(path: &Path) -> Result<Vec<Study>> {
    let mut studies = Vec::new();
    for columns in Columns::of(path)? {
        let columns = columns?;
        let (subject, study) = (columns.text("subject_id")?, columns.text("study_id")?);
        let (split, report, labels) = (columns.text("split")?, columns.text("report")?, columns.text("labels")?);
        let (frontal, lateral) = (columns.get::<UInt32Array>("frontal")?, columns.get::<UInt32Array>("lateral")?);
        let acquired = columns.get::<Float64Array>("acquired")?;
        let alternatives = columns.get::<ListArray>("alternative_frontals")?;
        for row in 0..columns.rows() {
            let labels: BTreeMap<String, String> =
                serde_json::from_str(labels.value(row)).map_err(|error| columns.fail(format!("labels: {error}")))?;
            studies.push(Study {
                subject: SubjectId(subject.value(row).into()),
                study: StudyId(study.value(row).into()),
                acquired: acquired.is_valid(row).then(|| Day(acquired.value(row))),
                split: columns.split(split.value(row))?,
                frontal: ImageIndex(frontal.value(row)),
                alternative_frontals: columns.numbers(alternatives, row)?.into_iter().map(ImageIndex).collect(),
                lateral: lateral.is_valid(row).then(|| ImageIndex(lateral.value(row))),
                report: report.is_valid(row).then(|| report.value(row).to_string()),
                labels,
            });
        }
    }
    Ok(studies)
}

/// Reads what [`write_sequences`] wrote.
pub fn read_sequences(path: &Path) -> Result<Vec<Sequence>> {
    let mut sequences = Vec::new();
    for columns in Columns::of(path)? {
        let columns = columns?;
        let (subject, split) = (columns.text("subject_id")?, columns.text("split")?);
        let studies = columns.get::<ListArray>("studies")?;
        for row in 0..columns.rows() {
            sequences.push(Sequence {
                subject: SubjectId(subject.value(row).into()),
                split: columns.split(split.value(row))?,
                studies: columns.numbers(studies, row)?,
            });
        }
    }
    Ok(sequences)
}

/// A record batch whose columns are asked for by name and type.
struct Columns<'a> {
    path: &'a Path,
    batch: RecordBatch,
}

impl<'a> Columns<'a> {
    fn of(path: &'a Path) -> Result<impl Iterator<Item = Result<Columns<'a>>>> {
        let fail = |message: String| Error::Corpus { path: path.to_path_buf(), message };
        let file = input::open(path).map_err(Error::io(path))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH).build())
            .map_err(|error| fail(format!("not readable as Parquet: {error}")))?;
        Ok(reader.map(move |batch| Ok(Columns { path, batch: batch.map_err(|error| fail(error.to_string()))? })))
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn fail(&self, message: String) -> Error {
        Error::Corpus { path: self.path.to_path_buf(), message }
    }

    fn get<T: Array + 'static>(&self, name: &str) -> Result<&T> {
        let column = self.batch.column_by_name(name).ok_or_else(|| self.fail(format!("column `{name}` is missing")))?;
        column
            .as_any()
            .downcast_ref()
            .ok_or_else(|| self.fail(format!("column `{name}` has the type {}", column.data_type())))
    }

    fn text(&self, name: &str) -> Result<&StringArray> {
        self.get(name)
    }

    fn split(&self, name: &str) -> Result<Split> {
        Split::parse(name).ok_or_else(|| self.fail(format!("unknown split `{name}`")))
    }

    fn numbers(&self, lists: &ListArray, row: usize) -> Result<Vec<u32>> {
        let values = lists.value(row);
        let values: Option<&UInt32Array> = values.as_any().downcast_ref();
        values
            .map(|v| v.values().to_vec())
            .ok_or_else(|| self.fail("a list contains values that are not 32-bit numbers".into()))
    }
}
