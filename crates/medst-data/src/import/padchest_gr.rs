//! PadChest-GR: sentences in English with boxes, and how findings changed since a prior study.
//!
//! Boxes are in fractions of the picture. The corpus holds current and prior studies; `pairs.csv`
//! holds the courses.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Deserializer};

use super::assemble::{Assembly, FoundImage};
use super::courses::{self, Courses};
use super::described::boxes::picture_size;
use super::described::sources::PADCHEST;
use super::plan::{Plan, ReportText};
use super::rows::Rows;
use super::{Planned, PrepareOptions, files_below, values};
use crate::boxes::{self, Boxes, Region};
use crate::split::Split;
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Error, Result};

const REPORTS: &str = "grounded_reports_20240819.json";
const TABLE: &str = "master_table.csv";

/// The folder of the collection.
#[derive(Clone, Debug, Default)]
pub struct PadChestGr {
    /// The folder with reports, table and, in any folder below, the images.
    pub root: PathBuf,
}

/// Fields that other versions may lack, and whose absence is counted. `None` where the field is not
/// there, as opposed to null.
type Field<T> = Option<T>;

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "StudyID")]
    study: String,
    #[serde(rename = "ImageID")]
    image: String,
    #[serde(rename = "PreviousStudyID", default, deserialize_with = "present")]
    previous_study: Field<Option<String>>,
    #[serde(rename = "PreviousImageID", default, deserialize_with = "present")]
    previous_image: Field<Option<String>>,
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    #[serde(default, deserialize_with = "present")]
    sentence_en: Field<Option<String>>,
    abnormal: Field<bool>,
    boxes: Field<Vec<[f64; 4]>>,
    extra_boxes: Field<Vec<[f64; 4]>>,
    labels: Field<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    progression: Field<Option<String>>,
}

/// A field that is there, though it may be null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Field<Option<T>>, D::Error> {
    Option::deserialize(source).map(Some)
}

impl Record {
    fn previous_study(&self) -> Option<&String> {
        self.previous_study.as_ref()?.as_ref()
    }

    /// Fields that it lacks, by their names in the file.
    fn absent(&self) -> impl Iterator<Item = &'static str> {
        let of_record =
            [("PreviousStudyID", self.previous_study.is_none()), ("PreviousImageID", self.previous_image.is_none())];
        let of_findings = self.findings.iter().flat_map(|finding| {
            [
                ("findings.sentence_en", finding.sentence_en.is_none()),
                ("findings.abnormal", finding.abnormal.is_none()),
                ("findings.boxes", finding.boxes.is_none()),
                ("findings.extra_boxes", finding.extra_boxes.is_none()),
                ("findings.labels", finding.labels.is_none()),
                ("findings.progression", finding.progression.is_none()),
            ]
        });
        of_record.into_iter().chain(of_findings).filter(|(_, absent)| *absent).map(|(name, _)| name)
    }

    /// Gives a study the report and the labels of the record.
    fn describe(&self, index: usize, assembly: &mut Assembly) {
        let sentences: Vec<&str> = self.findings.iter().filter_map(Finding::sentence).collect();
        if !sentences.is_empty() {
            let findings = Some(sentences.join(" "));
            assembly.report(index, ReportText::Sections { impression: None, findings, last_paragraph: None });
        }
        let abnormal = || self.findings.iter().filter(|finding| finding.abnormal == Some(true));
        for (name, theirs) in PADCHEST.findings.iter().flat_map(|findings| findings.names) {
            if *name != "No Finding" {
                let there = abnormal().any(|finding| finding.is_called(theirs));
                assembly.label(index, name, u8::from(there).to_string());
            }
        }
    }
}

/// The row of a study in the table.
struct Listed {
    subject: String,
    split: Split,
    acquired: Option<Day>,
    labels: Vec<(&'static str, String)>,
}

/// Reads reports and table, and finds the images.
///
/// # Errors
/// A file that is missing or cannot be understood.
pub fn plan(source: &PadChestGr, options: &PrepareOptions) -> Result<Planned> {
    let root = &source.root;
    let [reports, table] = [REPORTS, TABLE].map(|name| root.join(name));
    if let Some(missing) = [&reports, &table].into_iter().find(|path| !path.exists()) {
        let name = missing.file_name().unwrap_or_default().display();
        return Err(Error::Usage(format!("{} is not PadChest-GR: it has no {name}", root.display())));
    }
    let mut assembly = Assembly::new(&reports, options)?;
    let listed = read_table(&table, &mut assembly.plan)?;
    let records = read_records(&reports)?;
    let archive = Archive { root, listed, images: images_below(root)? };
    let regions = archive.add_current(&records, &mut assembly)?;
    let Priors { pairs, courses } = archive.add_priors(&records, &reports, &mut assembly)?;
    give_boxes(regions, &mut assembly);
    let paired: HashSet<usize> = pairs.iter().flatten().copied().collect();
    let alone = (0..assembly.plan.studies.len()).filter(|study| !paired.contains(study)).map(|study| vec![study]);
    assembly.plan.sequences = Some(pairs.iter().cloned().chain(alone).collect());
    let mut plan = assembly.finish(options)?;
    courses.finish(&mut plan);
    Ok(Planned { plan, files: vec![reports, table] })
}

fn read_records(path: &Path) -> Result<Vec<Record>> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    serde_json::from_reader(file).map_err(|error| {
        let message = format!("line {}: {error}", error.line());
        Error::Table { path: path.to_path_buf(), message }
    })
}

/// The files below a folder by their names; of equal names the first.
fn images_below(root: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut files = Vec::new();
    files_below(root, &mut files)?;
    files.sort();
    let mut images = HashMap::new();
    for path in files {
        images.entry(path.file_name().unwrap_or_default().to_string_lossy().into_owned()).or_insert(path);
    }
    Ok(images)
}

/// What the records refer to.
struct Archive<'a> {
    root: &'a Path,
    /// Rows of the table by study.
    listed: HashMap<String, Listed>,
    /// By their names.
    images: HashMap<String, PathBuf>,
}

/// What the records state of prior studies.
struct Priors {
    /// Indices of a prior study and its current one.
    pairs: Vec<Vec<usize>>,
    courses: Courses,
}

impl Archive<'_> {
    /// Adds a study of the subject of `listed`; returns its index.
    fn add(
        &self,
        assembly: &mut Assembly,
        [study, image]: [&str; 2],
        listed: &Listed,
        row: u64,
        acquired: Option<Day>,
    ) -> Result<usize> {
        let path = self.images.get(image).cloned().unwrap_or_else(|| self.root.join(image));
        let (subject, study) = (SubjectId(listed.subject.clone()), StudyId(study.to_string()));
        // All are frontal; PA or AP is not given.
        let (view, split) = (View::Pa, Some(listed.split));
        assembly.add(FoundImage { subject, study, view, path, row, acquired, split })
    }

    /// Adds the studies that the records are about; returns their regions, by study.
    fn add_current(&self, records: &[Record], assembly: &mut Assembly) -> Result<BTreeMap<usize, Vec<Region>>> {
        let mut absent: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        let mut regions: BTreeMap<usize, Vec<Region>> = BTreeMap::new();
        for (number, record) in records.iter().enumerate() {
            let row = number as u64 + 1;
            for name in record.absent() {
                absent.entry(name).or_insert((row, 0)).1 += 1;
            }
            let Some(listed) = self.listed.get(&record.study) else {
                assembly.plan.skip(record.image.as_str(), row, format!("study is not in {TABLE}"));
                continue;
            };
            let index = self.add(assembly, [&record.study, &record.image], listed, row, listed.acquired)?;
            for (name, value) in &listed.labels {
                assembly.label(index, name, value.clone());
            }
            record.describe(index, assembly);
            for finding in &record.findings {
                let found = finding.regions();
                if !found.is_empty() {
                    regions.entry(index).or_default().extend(found);
                }
                let extra = finding.extra_boxes.as_ref().map_or(0, Vec::len);
                (0..extra).for_each(|_| assembly.plan.warn("extra_boxes, not used"));
            }
        }
        for (name, (row, count)) in absent {
            let note = format!("records or findings without `{name}` (the first in record {row})");
            assembly.plan.warnings.insert(note, count);
        }
        Ok(regions)
    }

    /// Adds prior studies. They come after all current ones, because many of them are current
    /// studies themselves.
    fn add_priors(&self, records: &[Record], reports: &Path, assembly: &mut Assembly) -> Result<Priors> {
        let mut priors = Priors { pairs: Vec::new(), courses: Courses::default() };
        for (number, record) in records.iter().enumerate() {
            let row = number as u64 + 1;
            let current = assembly.index_of(&StudyId(record.study.clone()));
            let (Some(previous), Some(current)) = (record.previous_study(), current) else { continue };
            let known = assembly.index_of(&StudyId(previous.clone()));
            let image = record.previous_image.as_ref().and_then(Option::as_ref);
            let index = match (known, image, self.listed.get(&record.study)) {
                (Some(index), ..) => index,
                (None, Some(image), Some(listed)) => self.add(assembly, [previous, image], listed, row, None)?,
                _ => {
                    assembly.plan.warn("prior studies without an image, not used");
                    continue;
                }
            };
            priors.pairs.push(vec![index, current]);
            let pair = priors.courses.pair([previous, &record.study]);
            for finding in &record.findings {
                let Some(word) = finding.progression.iter().flatten().next() else { continue };
                let course = courses::parse(word).ok_or_else(|| Error::Row {
                    path: reports.to_path_buf(),
                    row,
                    message: format!("progression is `{word}`; expected stable, improved or worsened"),
                })?;
                finding.names().iter().for_each(|name| priors.courses.tell(pair, name, course));
            }
        }
        Ok(priors)
    }
}

impl Finding {
    fn sentence(&self) -> Option<&str> {
        self.sentence_en.as_ref()?.as_deref()
    }

    /// Its boxes, in fractions of the picture.
    fn regions(&self) -> Vec<Region> {
        let phrase = self.sentence().unwrap_or_default();
        let region =
            |&[left, top, right, bottom]: &[f64; 4]| Region { phrase: phrase.to_string(), left, top, right, bottom };
        self.boxes.iter().flatten().map(region).collect()
    }

    fn labels(&self) -> &[String] {
        self.labels.as_deref().unwrap_or_default()
    }

    fn is_called(&self, names: &[&str]) -> bool {
        self.labels().iter().any(|label| names.iter().any(|name| name.eq_ignore_ascii_case(label.trim())))
    }

    /// Names of the findings in medst, or the source's labels where medst has no name for them.
    fn names(&self) -> Vec<String> {
        let known = PADCHEST.findings.iter().flat_map(|findings| findings.names);
        let names: Vec<String> =
            known.filter(|(_, theirs)| self.is_called(theirs)).map(|(name, _)| name.to_string()).collect();
        if names.is_empty() { self.labels().to_vec() } else { names }
    }
}

/// Fractions become pixels of the pictures.
fn give_boxes(regions: BTreeMap<usize, Vec<Region>>, assembly: &mut Assembly) {
    let of_study: Vec<(usize, Vec<Region>)> = regions.into_iter().collect();
    let paths: Vec<PathBuf> =
        of_study.iter().map(|(index, _)| assembly.plan.studies[*index].frontals[0].path.clone()).collect();
    let sizes: Vec<Option<[f64; 2]>> = paths.par_iter().map(|path| picture_size(path)).collect();
    for ((index, regions), size) in of_study.into_iter().zip(sizes) {
        let Some([width, height]) = size else {
            assembly.plan.warn("boxes not used: the picture is missing or unreadable, so its size is unknown");
            continue;
        };
        let scaled = |region: Region| Region {
            left: region.left * width,
            right: region.right * width,
            top: region.top * height,
            bottom: region.bottom * height,
            ..region
        };
        let label = Boxes { width, height, regions: regions.into_iter().map(scaled).collect() }.to_label();
        match Boxes::parse(&label) {
            Ok(_) => assembly.label(index, boxes::LABEL, label),
            Err(_) => assembly.plan.warn("boxes not used: a box is empty or outside the picture"),
        }
    }
}

fn read_table(path: &Path, plan: &mut Plan) -> Result<HashMap<String, Listed>> {
    let mut rows = Rows::open(path)?;
    let [study, subject, split, date] =
        [rows.column("StudyID")?, rows.column("PatientID")?, rows.column("split")?, rows.column("StudyDate_DICOM")?];
    let kept = [("PatientSex_DICOM", "sex"), ("PatientAge", "age")];
    let mut columns = Vec::new();
    for (name, label) in kept {
        columns.extend(rows.optional(name, plan)?.map(|column| (column, label)));
    }
    let mut listed: HashMap<String, Listed> = HashMap::new();
    rows.each(|row| {
        let fail = |message: String| Error::Row { path: path.to_path_buf(), row: row.number, message };
        let [Some(study), Some(subject)] = [study, subject].map(|column| row.cell(column)) else {
            return Err(fail("StudyID or PatientID is missing".into()));
        };
        let cell = row.cell(split).unwrap_or_default();
        let split =
            Split::parse(cell).ok_or_else(|| fail(format!("split is `{cell}`; expected train, validation or test")))?;
        let acquired = row.cell(date).and_then(|date| values::dicom_moment(date, None));
        let labels =
            columns.iter().filter_map(|(column, label)| Some((*label, super::described::plain(row.cell(*column)?))));
        let found = Listed { subject: subject.to_string(), split, acquired, labels: labels.collect() };
        match listed.get(study) {
            // A row per finding.
            Some(known) if (&known.subject, known.split) != (&found.subject, found.split) => {
                Err(fail(format!("study {study} has a different patient or split in an earlier entry")))
            }
            Some(_) => Ok(()),
            None => {
                listed.insert(study.to_string(), found);
                Ok(())
            }
        }
    })?;
    Ok(listed)
}
