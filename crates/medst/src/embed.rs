//! Embeddings of a corpus with a trained model, to Parquet.
//!
//! One row a study: `subject_id`, `study_id`, `split`, `image_embedding` and `report_embedding` (lists of `D` float32, unit
//! vectors; the latter null for studies without a report).

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use medst_data::corpus::Corpus;
use medst_data::progress::Progress;
use medst_data::split::Split;
use medst_data::study::Study;
use parquet::arrow::ArrowWriter;
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::model::Mode;
use crate::model::input::ReportInput;
use crate::train::checkpoint::OpenedModel;
use crate::train::dataset::{Drawn, image_input};
use crate::{Error, Result};

/// What [`corpus`] wrote.
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
        writeln!(f, "{}: {studies} studies, {with_report} with a report, {width} values an embedding", file.display())
    }
}

/// The unit vectors of some studies.
#[derive(Debug)]
pub struct Embeddings {
    /// `[B, D]` float32 on the CPU.
    pub images: Tensor,
    /// One row for each study that has a report, in order: `[R, D]` float32 on the CPU.
    pub reports: Tensor,
}

/// Embeds studies of a corpus; centre crops, evaluation mode. A study's embedding does not depend on the others.
///
/// # Errors
/// When the corpus' pictures are smaller than the model's input.
pub fn studies(opened: &OpenedModel, corpus: &Corpus, studies: &[&Study]) -> Result<Embeddings> {
    let config = &opened.model.config;
    if config.image.size > corpus.image_size() as i64 {
        let (asked, stored) = (config.image.size, corpus.image_size());
        return Err(Error::Config(format!("the model reads {asked} pixels, the corpus holds pictures of {stored}")));
    }
    let _guard = tch::no_grad_guard();
    let device = opened.model.device();
    let host = |x: Tensor| x.to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
    let draw = |_: usize, study: &Study, stored: usize, side: usize| Drawn::centre(study, stored, side);
    let input = image_input(corpus, studies, config.image.size as usize, draw);
    let images = opened.model.embed_images(&input.to_device(device), Mode::Evaluate)?.global;
    let window = config.text.max_tokens as usize;
    let texts = studies.iter().filter_map(|study| study.report.as_deref());
    let tokens: Vec<Vec<u32>> = texts.map(|text| opened.pieces.encode(text, window)).collect();
    let reports = if tokens.is_empty() {
        Tensor::zeros([0, config.projection.embedding], (Kind::Float, device))
    } else {
        let continues = |id| opened.pieces.is_continuation(id);
        let input = ReportInput::new(&tokens, continues, opened.pieces.separator(), window as i64, config.semantics);
        opened.model.embed_reports(&input.to_device(device), Mode::Evaluate)?.global
    };
    Ok(Embeddings { images: host(images), reports: host(reports) })
}

/// Embeds a corpus (or one split of it) into a Parquet file, which appears whole or not at all.
///
/// # Errors
/// No study to embed, a file that cannot be written, a stop request.
pub fn corpus(
    opened: &OpenedModel,
    corpus: &Corpus,
    split: Option<Split>,
    out: &Path,
    batch: usize,
    progress: &dyn Progress,
) -> Result<Embedded> {
    let chosen: Vec<&Study> =
        corpus.studies().iter().filter(|study| split.is_none_or(|split| study.split == split)).collect();
    if chosen.is_empty() {
        let name = split.map_or("any split", Split::name);
        return Err(Error::Config(format!("{} has no studies in {name}", corpus.path().display())));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staged = tempfile::Builder::new()
        .prefix(".embeddings-")
        // As any new file; temporary ones are for their owner only.
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(Error::io(folder))?;
    let fail =
        |error: parquet::errors::ParquetError| Error::Io { path: out.into(), source: std::io::Error::other(error) };
    let width = opened.model.config.projection.embedding;
    let mut writer: Option<ArrowWriter<File>> = None;
    progress.begin("embedding", Some(chosen.len() as u64));
    for part in chosen.chunks(batch.max(1)) {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let rows = record_batch(part, &studies(opened, corpus, part)?, width)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let file = staged.reopen().map_err(Error::io(out))?;
                none.insert(ArrowWriter::try_new(file, rows.schema(), None).map_err(fail)?)
            }
        };
        writer.write(&rows).map_err(fail)?;
        progress.advance(part.len() as u64);
    }
    if let Some(writer) = writer {
        writer.into_inner().map_err(fail)?.sync_all().map_err(Error::io(out))?;
    }
    staged.persist(out).map_err(|error| Error::Io { path: out.into(), source: error.error })?;
    progress.end();
    let with_report = chosen.iter().filter(|study| study.report.is_some()).count();
    Ok(Embedded { file: out.into(), studies: chosen.len(), with_report, width })
}

fn record_batch(studies: &[&Study], embeddings: &Embeddings, width: i64) -> Result<RecordBatch> {
    let values = |x: &Tensor| Vec::<f32>::try_from(x.reshape([-1]));
    let (images, reports) = (values(&embeddings.images)?, values(&embeddings.reports)?);
    let size = width as usize;
    let mut reports = reports.chunks_exact(size);
    let [mut subject, mut study, mut split] = [(); 3].map(|()| StringBuilder::new());
    let [mut image, mut report] = [(); 2].map(|()| FixedSizeListBuilder::new(Float32Builder::new(), size as i32));
    for (row, values) in studies.iter().zip(images.chunks_exact(size)) {
        subject.append_value(&row.subject.0);
        study.append_value(&row.study.0);
        split.append_value(row.split.name());
        image.values().append_slice(values);
        image.append(true);
        match row.report.as_ref().and_then(|_| reports.next()) {
            Some(values) => {
                report.values().append_slice(values);
                report.append(true);
            }
            None => {
                report.values().append_nulls(size);
                report.append(false);
            }
        }
    }
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("subject_id", Arc::new(subject.finish()), false),
        ("study_id", Arc::new(study.finish()), false),
        ("split", Arc::new(split.finish()), false),
        ("image_embedding", Arc::new(image.finish()), false),
        ("report_embedding", Arc::new(report.finish()), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length"))
}
