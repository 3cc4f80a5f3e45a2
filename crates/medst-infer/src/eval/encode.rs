//! Where embeddings come from: a model, or files that any other program wrote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use medst_data::corpus::Corpus;
use medst_data::input;
use medst_data::progress::Progress;
use rayon::prelude::*;

use super::Vectors;
use crate::infer::heat::{HeatMap, Likeness};
use crate::infer::stream::{self, EmbeddingOutputs, StudyInput};
use crate::infer::table::{self, FEATURE, IMAGE, REPORT, STUDY};
use crate::infer::{Engine, EngineRef, Origin, Text, Views};
use crate::model::builtin;
use crate::{Error, Result};

/// Turns studies and texts into vectors.
pub trait Encoder {
    fn origin(&self) -> Origin;

    /// The vectors of some studies; `rows`: of the corpus.
    ///
    /// # Errors
    /// Pictures that do not fit the model, a stop request. Missing pictures, reports or vectors are
    /// not an error.
    fn studies(&self, corpus: &Corpus, rows: &[usize], progress: &dyn Progress) -> Result<Studies>;

    /// One vector per text.
    ///
    /// # Errors
    /// A text without a vector, which the message names.
    fn texts(&self, texts: &[String]) -> Result<Vectors>;

    /// Similarity maps of frontal pictures with phrases; `None` if the encoder has no local
    /// embeddings.
    ///
    /// # Errors
    /// As [`Encoder::studies`].
    fn heat_maps(&self, corpus: &Corpus, wanted: &[(usize, String)]) -> Result<Option<Vec<HeatMap>>> {
        let maps = self.heat_maps_by(corpus, wanted, &[Likeness::default()])?;
        Ok(maps.and_then(|mut maps| maps.pop()))
    }

    /// Like [`Encoder::heat_maps`], for several similarity measures: one list of maps for each.
    ///
    /// # Errors
    /// As [`Encoder::studies`].
    fn heat_maps_by(
        &self,
        _corpus: &Corpus,
        _wanted: &[(usize, String)],
        _likenesses: &[Likeness],
    ) -> Result<Option<Vec<Vec<HeatMap>>>> {
        Ok(None)
    }

    /// Side in pixels of the middle of the stored pictures that is seen; all of it by default.
    fn seen_side(&self, corpus: &Corpus) -> usize {
        corpus.image_size()
    }
}

/// Vectors of a corpus' studies.
#[derive(Clone, Debug)]
pub struct Studies {
    /// `[CLS]` features for probes; `None` where the encoder gives embeddings alone.
    pub features: Option<RowVectors>,
    pub images: RowVectors,
    pub reports: RowVectors,
}

/// Vectors by the row of the corpus.
#[derive(Clone, Debug)]
pub struct RowVectors {
    vectors: Vectors,
    places: HashMap<usize, Place>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    At(usize),
    NotFinite,
}

impl RowVectors {
    /// * `vectors`: one row for each of `rows` of the corpus. Rows with NaN or infinity are set
    ///   aside.
    pub fn new(vectors: Vectors, rows: &[usize]) -> RowVectors {
        let place = |(number, &row): (usize, &usize)| {
            (row, if vectors.is_finite(number) { Place::At(number) } else { Place::NotFinite })
        };
        let places = rows.iter().enumerate().map(place).collect();
        RowVectors { vectors, places }
    }

    /// The vector of a row of the corpus, or why it has none.
    pub fn get(&self, row: usize) -> Result<&[f32], &'static str> {
        match self.places.get(&row) {
            Some(&Place::At(number)) => Ok(self.vectors.row(number)),
            Some(Place::NotFinite) => Err("not finite"),
            None => Err("absent"),
        }
    }

    /// The vectors of rows of the corpus that all have one.
    pub fn select(&self, rows: &[usize]) -> Vectors {
        let numbers = rows.iter().map(|row| match self.places.get(row) {
            Some(&Place::At(number)) => number,
            _ => unreachable!("rows are chosen among those that have a vector"),
        });
        self.vectors.select(&numbers.collect::<Vec<usize>>())
    }
}

/// Encodes with a model.
pub struct ModelEncoder<'a> {
    pub engine: EngineRef<'a>,
    pub origin: Origin,
}

impl<'a> From<&'a Engine> for ModelEncoder<'a> {
    fn from(engine: &'a Engine) -> ModelEncoder<'a> {
        ModelEncoder { engine: engine.into(), origin: engine.origin().clone() }
    }
}

impl Encoder for ModelEncoder<'_> {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn studies(&self, corpus: &Corpus, rows: &[usize], progress: &dyn Progress) -> Result<Studies> {
        progress.begin("encoding studies", Some(rows.len() as u64));
        let inputs: Vec<StudyInput> =
            rows.iter().map(|&row| StudyInput::stored(corpus, &corpus.studies()[row])).collect();
        let collected = stream::collect(self.engine, &inputs, EmbeddingOutputs::ALL, progress)?;
        progress.end();
        let rows_with = |row_of: &[Option<usize>]| -> Vec<usize> {
            let studies = collected.studies.iter().zip(row_of);
            studies.filter(|(_, row)| row.is_some()).map(|(&number, _)| rows[number]).collect()
        };
        let (with_image, with_report) = (rows_with(&collected.image_of), rows_with(&collected.report_of));
        Ok(Studies {
            features: Some(RowVectors::new(collected.features, &with_image)),
            images: RowVectors::new(collected.images, &with_image),
            reports: RowVectors::new(collected.reports, &with_report),
        })
    }

    fn texts(&self, texts: &[String]) -> Result<Vectors> {
        let texts = texts.iter().map(|text| self.engine.reader.sentence(text)).collect::<Result<Vec<Text>>>()?;
        self.engine.texts(&texts.iter().collect::<Vec<_>>())
    }

    fn heat_maps_by(
        &self,
        corpus: &Corpus,
        wanted: &[(usize, String)],
        likenesses: &[Likeness],
    ) -> Result<Option<Vec<Vec<HeatMap>>>> {
        let read = |(row, phrase): &(usize, String)| {
            let views = self.engine.preprocessing.stored_views(corpus, &corpus.studies()[*row])?;
            Ok((views, self.engine.reader.sentence(phrase)?))
        };
        let read = wanted.par_iter().map(read).collect::<Result<Vec<(Views, Text)>>>()?;
        let (views, texts): (Vec<&Views>, Vec<&Text>) = read.iter().map(|(views, text)| (views, text)).unzip();
        self.engine.heat_maps(&views, &texts, likenesses).map(Some)
    }

    fn seen_side(&self, _: &Corpus) -> usize {
        self.engine.preprocessing.side()
    }
}

/// Reads what another program encoded.
///
/// * studies: Parquet with `study_id` and lists of numbers `image_embedding`, `report_embedding`
///   and `image_feature` (the latter two if there are any), or NPY `[n, D]` with one row per study
///   in the order of the corpus;
/// * texts: Parquet with `text` and `embedding`, or NPY in the order of a list of texts.
#[derive(Debug, Default)]
pub struct FileEncoder {
    images: Option<VectorSource>,
    features: Option<VectorSource>,
    reports: Option<VectorSource>,
    texts: HashMap<String, Vec<f32>>,
    width: usize,
    origin: Origin,
}

/// Vectors of studies as a file has them.
#[derive(Debug)]
enum VectorSource {
    /// Vectors by study ID.
    Keyed(HashMap<String, Vec<f32>>),
    /// In the order of the corpus.
    Aligned(Vectors, PathBuf),
}

/// The files of a [`FileEncoder`].
#[derive(Clone, Debug, Default)]
pub struct EmbeddingFiles {
    /// Parquet with any of the three columns, or NPY of image embeddings.
    pub studies: PathBuf,
    /// NPY of report embeddings, with a row of NaN for each study without a report; or Parquet.
    pub reports: Option<PathBuf>,
    pub texts: Option<PathBuf>,
    /// One text per line, in the order of an NPY of texts.
    pub text_list: Option<PathBuf>,
}

impl FileEncoder {
    /// # Errors
    /// Files that cannot be read, by name; vectors of different widths.
    pub fn open(files: &EmbeddingFiles) -> Result<FileEncoder> {
        let mut encoder = FileEncoder {
            origin: Origin { name: format!("embeddings in {}", files.studies.display()), ..Origin::default() },
            ..FileEncoder::default()
        };
        let named = [Some(&files.studies), files.reports.as_ref(), files.texts.as_ref(), files.text_list.as_ref()];
        for path in named.into_iter().flatten() {
            encoder.origin.files.insert(path.display().to_string(), builtin::checksum(path)?);
        }
        if is_npy(&files.studies) {
            encoder.images = Some(VectorSource::Aligned(Vectors::read_npy(&files.studies)?, files.studies.clone()));
        } else {
            let [images, reports, features] = keyed(&files.studies, [IMAGE, REPORT, FEATURE])?;
            if images.is_none() {
                return Err(fail(&files.studies, format!("has no column {IMAGE}")));
            }
            (encoder.images, encoder.reports, encoder.features) = (images, reports, features);
        }
        if let Some(path) = &files.reports {
            encoder.reports = if is_npy(path) {
                Some(VectorSource::Aligned(Vectors::read_npy(path)?, path.clone()))
            } else {
                let [reports] = keyed(path, [REPORT])?;
                reports
            };
        }
        if let Some(path) = &files.texts {
            encoder.texts = read_texts(path, files.text_list.as_deref())?;
        }
        encoder.width = encoder.images.as_ref().map_or(0, VectorSource::width);
        let others = encoder.reports.iter().map(|source| ("reports", source.width()));
        let texts = encoder.texts.values().map(|row| ("texts", row.len()));
        for (what, width) in others.chain(texts) {
            if width != encoder.width && width > 0 {
                let images = encoder.width;
                return Err(Error::Evaluation(format!(
                    "image embeddings have {images} values, but those of {what} have {width}"
                )));
            }
        }
        encoder.origin.properties = vec![("embedding width".into(), encoder.width.to_string())];
        Ok(encoder)
    }
}

fn fail(path: &Path, message: String) -> Error {
    Error::Evaluation(format!("{}: {message}", path.display()))
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

/// Columns of a Parquet file by study; `None` for those it lacks.
fn keyed<const N: usize>(path: &Path, columns: [&str; N]) -> Result<[Option<VectorSource>; N]> {
    let read = table::read(path, STUDY, &columns)?;
    let mut sources = [(); N].map(|()| None);
    for ((values, name), source) in read.columns.into_iter().zip(columns).zip(&mut sources) {
        let Some(values) = values else { continue };
        let mut of: HashMap<String, Vec<f32>> = HashMap::new();
        let mut width = None;
        for (key, vector) in read.keys.iter().zip(values) {
            let Some(vector) = vector else { continue };
            let expected = *width.get_or_insert(vector.len());
            if vector.len() != expected {
                return Err(fail(
                    path,
                    format!("{name} of study {key} has {} values, expected {expected}", vector.len()),
                ));
            }
            if of.insert(key.clone(), vector).is_some() {
                return Err(fail(path, format!("study {key} occurs twice")));
            }
        }
        *source = Some(VectorSource::Keyed(of));
    }
    Ok(sources)
}

fn read_texts(path: &Path, list: Option<&Path>) -> Result<HashMap<String, Vec<f32>>> {
    if !is_npy(path) {
        let read = table::read(path, "text", &["embedding"])?;
        let vectors = read.columns.into_iter().next().flatten();
        let vectors = vectors.ok_or_else(|| fail(path, "has no column embedding".into()))?;
        return Ok(read.keys.into_iter().zip(vectors).filter_map(|(text, vector)| Some((text, vector?))).collect());
    }
    let list = list.ok_or_else(|| fail(path, "needs the list of its texts; pass it with --list-texts FILE".into()))?;
    let texts = input::read_to_string(list, input::TEXT).map_err(Error::io(list))?;
    let vectors = Vectors::read_npy(path)?;
    let count = texts.lines().count();
    if count != vectors.len() {
        return Err(fail(path, format!("has {} rows, but {} has {count} lines", vectors.len(), list.display())));
    }
    Ok(texts.lines().map(str::to_string).zip(vectors.rows().map(<[f32]>::to_vec)).collect())
}

impl VectorSource {
    fn width(&self) -> usize {
        match self {
            VectorSource::Keyed(of) => of.values().next().map_or(0, Vec::len),
            VectorSource::Aligned(vectors, _) => vectors.width(),
        }
    }

    fn row_vectors(&self, corpus: &Corpus, rows: &[usize]) -> Result<RowVectors> {
        match self {
            VectorSource::Keyed(of) => {
                let found = rows.iter().filter_map(|&row| Some((row, of.get(&corpus.studies()[row].study.0)?)));
                let (rows, vectors): (Vec<usize>, Vec<&Vec<f32>>) = found.unzip();
                Ok(RowVectors::new(Vectors::from_rows(vectors)?, &rows))
            }
            VectorSource::Aligned(vectors, path) => {
                let studies = corpus.studies().len();
                if vectors.len() != studies {
                    return Err(fail(
                        path,
                        format!("has {} rows, but the corpus has {studies} studies", vectors.len()),
                    ));
                }
                Ok(RowVectors::new(vectors.select(rows), rows))
            }
        }
    }
}

impl Encoder for FileEncoder {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn studies(&self, corpus: &Corpus, rows: &[usize], _: &dyn Progress) -> Result<Studies> {
        let images = self.images.as_ref().map(|source| source.row_vectors(corpus, rows));
        let images = images.unwrap_or_else(|| Err(Error::Evaluation("no image embeddings are given".into())))?;
        let none = || RowVectors::new(Vectors::new(Vec::new(), self.width.max(1)).expect("no rows"), &[]);
        let reports = self.reports.as_ref().map(|source| source.row_vectors(corpus, rows)).transpose()?;
        let features = self.features.as_ref().map(|source| source.row_vectors(corpus, rows)).transpose()?;
        Ok(Studies { features, images, reports: reports.unwrap_or_else(none) })
    }

    fn texts(&self, texts: &[String]) -> Result<Vectors> {
        let missing: Vec<&String> = texts.iter().filter(|text| !self.texts.contains_key(*text)).collect();
        if let Some(first) = missing.first() {
            let count = missing.len();
            let message = format!(
                "{count} of {} texts have no embedding, such as “{first}”; write the list of required texts with \
                 --list-texts FILE",
                texts.len()
            );
            return Err(Error::Evaluation(message));
        }
        Vectors::from_rows(texts.iter().map(|text| &self.texts[text]))
    }
}
