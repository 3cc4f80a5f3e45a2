//! Parquet files of embeddings.
//!
//! One row per study: `subject_id`, `study_id`, `split`, `image_embedding` and `report_embedding`
//! (lists of `D` float32, unit vectors; the latter null for studies without a report), and where
//! asked for `image_feature` (a list of `H` float32, the image encoder's `[CLS]` state).

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use medst_data::corpus::Corpus;
use medst_data::files::whole;
use medst_data::input;
use medst_data::progress::Progress;
use medst_data::split::Split;
use medst_data::study::Study;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use tch::Tensor;

use super::{Begun, Embedder, Embeddings, check_finite};
use crate::{Error, Result};

/// The columns.
pub const STUDY: &str = "study_id";
pub const IMAGE: &str = "image_embedding";
pub const REPORT: &str = "report_embedding";
pub const FEATURE: &str = "image_feature";

/// What [`write()`] wrote.
#[derive(Clone, Debug, Serialize)]
pub struct Embedded {
    pub file: PathBuf,
    pub studies: usize,
    pub with_report: usize,
    /// Embedding width, `D`.
    pub width: i64,
}

impl fmt::Display for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Embedded { file, studies, with_report, width } = self;
        writeln!(f, "{}: {studies} studies, {with_report} with a report, {width} values per embedding", file.display())
    }
}

/// What is embedded, and how it is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Only this split.
    pub split: Option<Split>,
    /// Studies at a time.
    pub batch: usize,
    /// With the column `image_feature`.
    pub features: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { split: None, batch: 16, features: false }
    }
}

/// Embeds a corpus (or one split of it) into a Parquet file, which appears whole or not at all.
///
/// # Errors
/// No study to embed, a file that cannot be written, a stop request.
pub fn write(
    embedder: Embedder<'_>,
    corpus: &Corpus,
    out: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Embedded> {
    let chosen: Vec<&Study> =
        corpus.studies().iter().filter(|study| options.split.is_none_or(|split| study.split == split)).collect();
    if chosen.is_empty() {
        let name = options.split.map_or("any split", Split::name);
        return Err(Error::Config(format!("{} has no studies in {name}", corpus.path().display())));
    }
    let staged = whole::stage(out)?;
    let fail =
        |error: parquet::errors::ParquetError| Error::Io { path: out.into(), source: std::io::Error::other(error) };
    let mut writer: Option<ArrowWriter<File>> = None;
    progress.begin("embedding", Some(chosen.len() as u64));
    let mut keep = |part: &[&Study], begun: Begun| -> Result<()> {
        let rows = record_batch(part, &begun.finish(), options.features)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let file = staged.reopen().map_err(Error::io(out))?;
                none.insert(ArrowWriter::try_new(file, rows.schema(), None).map_err(fail)?)
            }
        };
        writer.write(&rows).map_err(fail)?;
        progress.advance(part.len() as u64);
        Ok(())
    };
    let (reader, device, batch) = (embedder.reader(), embedder.model.device(), options.batch.max(1));
    std::thread::scope(|scope| -> Result<()> {
        // One thread reads the next batches, the device computes one, this thread writes the one before. The channel's far end is gone after an error.
        let (sender, batches) = mpsc::sync_channel(2);
        let chosen = &chosen;
        scope.spawn(move || {
            let read = |part: &[&Study]| reader.studies(corpus, part).map(|given| given.ready_for(device));
            chosen.chunks(batch).all(|part| sender.send((part, read(part))).is_ok());
        });
        let mut before: Option<(&[&Study], Begun)> = None;
        for (part, given) in batches {
            if progress.stop_requested() {
                return Err(Error::Stopped);
            }
            let begun = embedder.begin(&given?)?;
            if let Some((part, begun)) = before.replace((part, begun)) {
                keep(part, begun)?;
            }
        }
        before.map_or(Ok(()), |(part, begun)| keep(part, begun))
    })?;
    if let Some(writer) = writer {
        writer.close().map_err(fail)?;
    }
    whole::publish(staged, out)?;
    progress.end();
    let with_report = chosen.iter().filter(|study| study.report.is_some()).count();
    let width = embedder.model.config.projection.embedding;
    Ok(Embedded { file: out.into(), studies: chosen.len(), with_report, width })
}

/// A column of vectors that is being filled.
struct Lists {
    builder: FixedSizeListBuilder<Float32Builder>,
    width: usize,
}

impl Lists {
    fn of(x: &Tensor) -> Result<(Lists, Vec<f32>)> {
        let width = x.size2()?.1;
        let builder = FixedSizeListBuilder::new(Float32Builder::new(), width as i32);
        let values = Vec::<f32>::try_from(x.reshape([-1]))?;
        check_finite(&values)?;
        Ok((Lists { builder, width: width as usize }, values))
    }

    fn push(&mut self, values: Option<&[f32]>) {
        match values {
            Some(values) => self.builder.values().append_slice(values),
            None => self.builder.values().append_nulls(self.width),
        }
        self.builder.append(values.is_some());
    }
}

fn record_batch(studies: &[&Study], embeddings: &Embeddings, features: bool) -> Result<RecordBatch> {
    let (mut image, images) = Lists::of(&embeddings.images)?;
    let (mut feature, all_features) = Lists::of(&embeddings.features)?;
    let (mut report, reports) = Lists::of(&embeddings.reports)?;
    let mut reports = reports.chunks_exact(report.width);
    let [mut subject, mut study, mut split] = [(); 3].map(|()| StringBuilder::new());
    let values = images.chunks_exact(image.width).zip(all_features.chunks_exact(feature.width));
    for (row, (own_image, own_feature)) in studies.iter().zip(values) {
        subject.append_value(&row.subject.0);
        study.append_value(&row.study.0);
        split.append_value(row.split.name());
        image.push(Some(own_image));
        feature.push(Some(own_feature));
        report.push(row.report.as_ref().and_then(|_| reports.next()));
    }
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("subject_id", Arc::new(subject.finish()), false),
        (STUDY, Arc::new(study.finish()), false),
        ("split", Arc::new(split.finish()), false),
        (IMAGE, Arc::new(image.builder.finish()), false),
        (REPORT, Arc::new(report.builder.finish()), true),
    ];
    if features {
        columns.push((FEATURE, Arc::new(feature.builder.finish()), false));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length"))
}

/// Rows of a Parquet file of vectors.
#[derive(Clone, Debug, Default)]
pub struct Keyed {
    /// What each row is of.
    pub keys: Vec<String>,
    /// For each column that was asked for its vectors; `None` where the file lacks the column.
    pub columns: Vec<Option<Vec<Option<Vec<f32>>>>>,
}

/// Reads vectors that any program wrote: lists (of any or of fixed size) of numbers, with a key column of text or whole
/// numbers. Empty elements are read as NaN.
///
/// # Errors
/// A file that is not Parquet, or lacks the key; columns of other types.
pub fn read(path: &Path, key: &str, wanted: &[&str]) -> Result<Keyed> {
    let fail = |message: String| Error::Evaluation(format!("{}: {message}", path.display()));
    let file = input::open(path).map_err(Error::io(path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| fail(format!("not a usable Parquet file: {error}")))?;
    let mut read = Keyed { keys: Vec::new(), columns: vec![None; wanted.len()] };
    let lists = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
    for batch in reader {
        let batch = batch.map_err(|error| fail(format!("damaged: {error}")))?;
        let column = |name: &str, kind: &DataType| -> Result<Option<ArrayRef>> {
            let Some(column) = batch.column_by_name(name) else { return Ok(None) };
            let wrong = || fail(format!("column {name} has type {}", column.data_type()));
            arrow_cast::cast(column, kind).map(Some).map_err(|_| wrong())
        };
        let names = batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(", ");
        let keys = column(key, &DataType::Utf8)?
            .ok_or_else(|| fail(format!("has no column {key}; its columns are {names}")))?;
        read.keys.extend(keys.as_string::<i32>().iter().map(|key| key.unwrap_or_default().to_string()));
        for (name, own) in wanted.iter().zip(&mut read.columns) {
            let Some(vectors) = column(name, &lists)? else { continue };
            let vectors = vectors.as_list::<i32>().clone();
            let vector = |row: ArrayRef| -> Vec<f32> {
                row.as_primitive::<Float32Type>().iter().map(|value| value.unwrap_or(f32::NAN)).collect()
            };
            own.get_or_insert_default().extend(vectors.iter().map(|row| row.map(vector)));
        }
    }
    Ok(read)
}
