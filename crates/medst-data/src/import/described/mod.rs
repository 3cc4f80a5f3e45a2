//! Sources that are described by a table with its own column names: one [`Description`] per source
//! ([`sources`]), and a common importer.
//!
//! | file | what |
//! |---|---|
//! | [`sources`] | the descriptions |
//! | [`template`] | ids and paths made from the cells of a row |
//! | [`boxes`] | the table of boxes of a source |
//! | `chexpert_plus` | what CheXpert Plus has in addition to its table |

pub mod boxes;
mod chexpert_plus;
pub mod sources;
pub mod template;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use self::boxes::BoxTable;
use self::template::{Columns, Template};
use super::assemble::{Assembly, FoundImage, VIEW};
use super::plan::ReportText;
use super::rows::{RowView, Rows};
use super::{Planned, PrepareOptions};
use crate::image;
use crate::progress::Progress;
use crate::split::Split;
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Error, Reason, Result};

/// The names that a source uses. IDs and paths are templates ([`template`]) over the cells of a
/// row.
#[derive(Debug)]
pub struct Description {
    /// The name that the command line and `corpus.json` use.
    pub kind: &'static str,
    /// The name in messages.
    pub title: &'static str,
    /// The tables with a row per image. Those that exist are read; the first must exist, or one of
    /// the others.
    pub tables: &'static [ImageTable],
    /// Columns that may be missing. Every other column that the description names must exist.
    pub optional: &'static [&'static str],
    pub subject: &'static str,
    pub study: &'static str,
    /// Endings tried instead of the one that the table writes.
    pub endings: &'static [&'static str],
    /// The first entry whose conditions are true gives the view; a row without such an entry is
    /// left out.
    pub views: &'static [(&'static [Condition], View)],
    /// Rows left out: condition and reason.
    pub left_out: &'static [(Condition, &'static str)],
    pub time: Option<(&'static str, Clock)>,
    /// Columns of the impression and of the findings.
    pub report: Option<[&'static str; 2]>,
    /// The column that names the split, and the meaning of its values. It takes precedence over the
    /// table's split.
    pub split: Option<(&'static str, &'static [(&'static str, SplitAssignment)])>,
    /// Lists of image file names that decide on the split.
    pub lists: &'static [(&'static str, SplitAssignment)],
    pub findings: Option<Findings>,
    pub keep: Keep,
    /// Findings by the source's name where the program has another one.
    pub renamed: &'static [(&'static str, &'static str)],
    pub boxes: Option<BoxTable>,
    /// An image may have several rows: its boxes, or its readers.
    pub repeats: Repeats,
    /// Subject and view are those of the DICOM header.
    pub headers: bool,
    /// Parts of the source other than its tables.
    pub more: Option<More>,
}

/// Reads what a source has in addition to its tables; returns the files read.
pub type More = fn(&Path, &[PathBuf], &mut Assembly) -> Result<Vec<PathBuf>>;

/// A column and what its cell must be: a value, nothing (`""`), or a part of the cell (`"*part*"`).
pub type Condition = (&'static str, &'static str);

/// A table with a row per image.
#[derive(Debug)]
pub struct ImageTable {
    /// Its names, of which the first that exists is read; `.gz` is tried too.
    pub names: &'static [&'static str],
    pub split: SplitAssignment,
    /// Possible paths of an image, relative to the folder. `**/` finds a file with that name in any
    /// sub-folder.
    pub images: &'static [&'static str],
}

/// The split that a source gives to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitAssignment {
    Train,
    /// Trains, except for 5 % of the subjects, by a hash of their id, which validate.
    TrainAndValidate,
    Validate,
    Test,
    /// 80 % train, 10 % validate, 10 % test, by a hash of the subject.
    ByHash,
}

impl SplitAssignment {
    /// The split of a subject; `None` where the corpus decides by hash.
    fn of_subject(self, subject: &str) -> Option<Split> {
        match self {
            SplitAssignment::Train => Some(Split::Train),
            SplitAssignment::TrainAndValidate if Sha256::digest(subject.as_bytes())[0] < 13 => Some(Split::Validate),
            SplitAssignment::TrainAndValidate => Some(Split::Train),
            SplitAssignment::Validate => Some(Split::Validate),
            SplitAssignment::Test => Some(Split::Test),
            SplitAssignment::ByHash => None,
        }
    }
}

/// The meaning of several rows with the same image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// A mistake: the image is listed twice.
    No,
    /// More of the same image, such as a box each.
    More,
    /// Readers, whose majority decides on a finding; contains the possible names of the reader's
    /// column. A reader may have several rows, and sees a finding if one of them names it. Without
    /// the column, each row counts as a different reader.
    Readers(&'static [&'static str]),
}

/// A column that lists findings: each known finding becomes a label, 1 or 0.
#[derive(Debug)]
pub struct Findings {
    pub column: &'static str,
    pub written: Written,
    /// The program's name, and the source's names that mean it.
    pub names: &'static [(&'static str, &'static [&'static str])],
    /// The label that carries the whole list.
    pub list: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub enum Written {
    Separated(char),
    /// A list as Python prints it, often with stray blanks.
    PythonList,
    /// A mask, or this where there is none; the finding is the first of the names.
    Mask(&'static str),
}

/// Which columns become labels unchanged.
#[derive(Debug)]
pub enum Keep {
    AllBut(&'static [&'static str]),
    /// Column and label.
    Only(&'static [(&'static str, &'static str)]),
}

/// A described source on the disk.
#[derive(Clone, Debug)]
pub struct Described {
    pub description: &'static Description,
    pub root: PathBuf,
    /// The folder of the images, if not `root`.
    pub images: Option<PathBuf>,
}

impl Described {
    /// CheXpert, whose parts depend on whether the test set, which was published later, is present.
    pub fn chexpert(root: PathBuf) -> Described {
        let with_test = root.join("test.csv").exists();
        let description = if with_test { &sources::CHEXPERT_WITH_TEST } else { &sources::CHEXPERT };
        Described { description, root, images: None }
    }

    /// VinDr-CXR: the archive with `annotations/`, or the challenge's `train.csv`.
    pub fn vindr(root: PathBuf) -> Described {
        let challenge = sources::VINDR_KAGGLE.tables[0].names[0];
        let of_archive = sources::VINDR.tables.iter().any(|table| existing(&root, table.names).is_some());
        let of_challenge = !of_archive && existing(&root, &[challenge]).is_some();
        let description = if of_challenge { &sources::VINDR_KAGGLE } else { &sources::VINDR };
        Described { description, root, images: None }
    }
}

/// Rows whose DICOM headers are read together, between two looks at the stop request.
const BLOCK: usize = 1024;

/// Reads the tables.
///
/// # Errors
/// Names the file, and the row if there is one: a missing or duplicate table or column, or a cell
/// that cannot be interpreted.
pub fn plan(source: &Described, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
    let (about, root) = (source.description, &source.root);
    let tables: Vec<(&ImageTable, PathBuf)> =
        about.tables.iter().filter_map(|table| Some((table, existing(root, table.names)?))).collect();
    let Some((_, main)) = tables.first() else {
        let names: Vec<&str> = about.tables.iter().map(|table| table.names[0]).collect();
        let (root, title) = (root.display(), about.title);
        return Err(Error::Usage(format!("{root} is not {title}: it has no {}", names.join(" or "))));
    };
    let lists = Lists::read(about, root)?;
    let mut reading = Reading {
        about,
        assembly: Assembly::new(main, options)?,
        lists: &lists,
        places: Places { root: source.images.as_deref().unwrap_or(root), below: HashMap::new(), last: 0 },
        votes: BTreeMap::new(),
        readers: HashMap::new(),
        pending: Vec::new(),
        progress,
    };
    if !about.lists.is_empty() && lists.files.is_empty() {
        let names: Vec<&str> = about.lists.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        reading.assembly.plan.warn(format!("no {names}: subjects are divided 80/10/10 by a hash of their id"));
    }
    for (table, path) in &tables {
        reading.table(table, path)?;
    }
    let Reading { mut assembly, votes, .. } = reading;
    for ((index, name), votes) in votes {
        let yes = votes.iter().filter(|(_, yes)| *yes).count();
        assembly.label(index, &name, u8::from(2 * yes > votes.len()).to_string());
    }
    let paths: Vec<PathBuf> = tables.into_iter().map(|(_, path)| path).collect();
    let mut files = paths.clone();
    if let Some(table) = &about.boxes {
        files.extend(boxes::read(table, about, root, &paths, &mut assembly)?);
    }
    if let Some(more) = about.more {
        files.extend(more(root, &paths, &mut assembly)?);
    }
    files.extend(lists.files);
    Ok(Planned { plan: assembly.finish(options)?, files })
}

/// The first of some files that exists, gzipped or not.
fn existing(root: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().flat_map(|name| [root.join(name), root.join(format!("{name}.gz"))]).find(|path| path.exists())
}

/// Which split the lists of images put an image in.
struct Lists {
    files: Vec<PathBuf>,
    of_image: HashMap<String, SplitAssignment>,
}

impl Lists {
    fn read(about: &Description, root: &Path) -> Result<Lists> {
        let mut lists = Lists { files: Vec::new(), of_image: HashMap::new() };
        for (name, split) in about.lists {
            let Some(path) = existing(root, &[*name]) else { continue };
            Rows::open_list(&path)?.each(|row| {
                let Some(image) = row.cell(0) else { return Ok(()) };
                match lists.of_image.insert(image.to_string(), *split) {
                    Some(other) if other != *split => {
                        let message = format!("`{image}` is also in another list");
                        Err(Error::Row { path: path.clone(), row: row.number, message })
                    }
                    _ => Ok(()),
                }
            })?;
            lists.files.push(path);
        }
        Ok(lists)
    }
}

/// The locations of images.
struct Places<'a> {
    root: &'a Path,
    /// Files below a folder by their names, for templates with `**/`.
    below: HashMap<PathBuf, HashMap<String, PathBuf>>,
    /// The place of the last image that existed: its neighbours are mostly in the same.
    last: usize,
}

impl Places<'_> {
    /// The file of an image, which exists where one of the candidates does.
    fn find(&mut self, candidates: &[String], endings: &[&str]) -> Result<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for candidate in candidates {
            if let Some((folder, name)) = candidate.split_once("**/") {
                paths.extend(self.below(folder)?.get(name).cloned());
                paths.push(self.root.join(folder).join(name));
                continue;
            }
            let plain = self.root.join(candidate);
            paths.extend(endings.iter().map(|ending| plain.with_extension(ending)));
            if endings.is_empty() {
                paths.push(plain);
            }
        }
        if paths.len() < 2 {
            return Ok(paths.swap_remove(0));
        }
        let count = paths.len();
        let found = (0..count).map(|step| (self.last + step) % count).find(|&index| paths[index].exists());
        self.last = found.unwrap_or(0);
        Ok(paths.swap_remove(self.last))
    }

    fn below(&mut self, folder: &str) -> Result<&HashMap<String, PathBuf>> {
        let start = self.root.join(folder);
        if !self.below.contains_key(&start) {
            let mut files = Vec::new();
            if start.exists() {
                super::files_below(&start, &mut files)?;
            }
            files.sort();
            let mut names = HashMap::with_capacity(files.len());
            for path in files {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                names.entry(name).or_insert(path);
            }
            self.below.insert(start.clone(), names);
        }
        Ok(&self.below[&start])
    }
}

/// A row whose image may need its header.
struct PendingRow {
    row: u64,
    subject: String,
    study: String,
    path: PathBuf,
    view: Result<View, Reason>,
    acquired: Option<Day>,
    split: SplitAssignment,
    report: Option<ReportText>,
    /// Who read the image.
    reader: u64,
    labels: Vec<(String, String)>,
}

struct Reading<'a> {
    about: &'static Description,
    assembly: Assembly,
    lists: &'a Lists,
    places: Places<'a>,
    /// For a study and finding: the number of each reader, and whether that reader sees the
    /// finding.
    votes: BTreeMap<(usize, String), Vec<(u64, bool)>>,
    /// The number of each reader, by name.
    readers: HashMap<String, u64>,
    pending: Vec<PendingRow>,
    progress: &'a dyn Progress,
}

/// Reads the time of a study from a cell.
pub type Clock = fn(&str) -> Option<Day>;

/// The columns of a table by purpose.
struct Meaning {
    subject: Template,
    study: Template,
    images: Vec<Template>,
    views: Vec<(Vec<Test>, View)>,
    left_out: Vec<(Test, &'static str)>,
    time: Option<(Option<usize>, Clock)>,
    report: Option<[Option<usize>; 2]>,
    split: Option<Option<usize>>,
    findings: Option<Option<usize>>,
    reader: Option<usize>,
    /// Column and label.
    kept: Vec<(usize, String)>,
}

/// A [`Condition`] with the place of its column.
struct Test {
    column: Option<usize>,
    name: &'static str,
    wanted: &'static str,
}

impl Test {
    fn holds(&self, row: &RowView) -> bool {
        let cell = self.column.and_then(|column| row.cell(column)).unwrap_or_default();
        match self.wanted.strip_prefix('*').and_then(|part| part.strip_suffix('*')) {
            Some(part) => cell.contains(part),
            None => cell == self.wanted,
        }
    }
}

impl Meaning {
    fn new(about: &Description, table: &ImageTable, rows: &Rows) -> Result<Meaning> {
        let columns = Columns { rows, optional: about.optional };
        let test = |&(name, wanted): &Condition| Ok::<_, Error>(Test { column: columns.find(name)?, name, wanted });
        let view = |(conditions, view): &(&[Condition], View)| {
            Ok::<_, Error>((conditions.iter().map(test).collect::<Result<Vec<Test>>>()?, *view))
        };
        let kept = match &about.keep {
            Keep::AllBut(but) => {
                let columns_kept = rows.columns().iter().enumerate();
                let columns_kept = columns_kept.filter(|(_, name)| !name.is_empty() && !but.contains(&name.as_str()));
                let label = |(column, name): (usize, &String)| rows.find(name).map(|_| (column, renamed(about, name)));
                columns_kept.map(label).collect::<Result<_>>()?
            }
            Keep::Only(pairs) => {
                let mut kept = Vec::new();
                for (name, label) in *pairs {
                    kept.extend(columns.find(name)?.map(|column| (column, label.to_string())));
                }
                kept
            }
        };
        Ok(Meaning {
            subject: Template::parse(about.subject, &columns)?,
            study: Template::parse(about.study, &columns)?,
            images: table.images.iter().map(|text| Template::parse(text, &columns)).collect::<Result<_>>()?,
            views: about.views.iter().map(view).collect::<Result<_>>()?,
            left_out: about
                .left_out
                .iter()
                .map(|(condition, why)| Ok::<_, Error>((test(condition)?, *why)))
                .collect::<Result<_>>()?,
            time: about.time.map(|(name, read)| Ok::<_, Error>((columns.find(name)?, read))).transpose()?,
            report: match about.report {
                Some([impression, findings]) => Some([columns.find(impression)?, columns.find(findings)?]),
                None => None,
            },
            split: about.split.map(|(name, _)| columns.find(name)).transpose()?,
            findings: about.findings.as_ref().map(|findings| columns.find(findings.column)).transpose()?,
            reader: match about.repeats {
                Repeats::Readers(names) => {
                    let found = names.iter().map(|name| rows.find(name)).collect::<Result<Vec<_>>>()?;
                    found.into_iter().flatten().next()
                }
                Repeats::No | Repeats::More => None,
            },
            kept,
        })
    }
}

/// The name in medst of what the source calls `name`.
fn renamed(about: &Description, name: &str) -> String {
    let other = about.renamed.iter().find(|(theirs, _)| *theirs == name);
    other.map_or(name, |(_, ours)| *ours).to_string()
}

impl Reading<'_> {
    fn table(&mut self, table: &ImageTable, path: &Path) -> Result<()> {
        let mut rows = Rows::open(path)?;
        let meaning = Meaning::new(self.about, table, &rows)?;
        for name in self.about.optional {
            rows.optional(name, &mut self.assembly.plan)?;
        }
        // A test set may have the readers' consensus.
        if let (Repeats::Readers(names), None) = (self.about.repeats, meaning.reader)
            && table.split != SplitAssignment::Test
        {
            rows.optional(names[0], &mut self.assembly.plan)?;
        }
        self.progress
            .begin(if self.about.headers { "reading tables and DICOM headers" } else { "reading tables" }, None);
        rows.each(|row| {
            self.row(path, table, &meaning, &row)?;
            if self.pending.len() >= BLOCK { self.flush() } else { Ok(()) }
        })?;
        self.flush()?;
        self.progress.end();
        Ok(())
    }

    fn row(&mut self, path: &Path, table: &ImageTable, meaning: &Meaning, row: &RowView) -> Result<()> {
        let ids = meaning.subject.fill(row).and_then(|subject| Ok((subject, meaning.study.fill(row)?)));
        let images: Result<Vec<String>, Reason> = meaning.images.iter().map(|template| template.fill(row)).collect();
        let (subject, study, images) = match (ids, images) {
            (Ok((subject, study)), Ok(images)) => (subject, study, images),
            (Err(reason), images) => {
                let image = images.ok().and_then(|mut images| images.pop()).unwrap_or_default();
                self.assembly.plan.skip(image, row.number, reason);
                return Ok(());
            }
            (Ok((subject, study)), Err(reason)) => {
                self.assembly.know(&subject, &study, Path::new(""));
                self.assembly.plan.skip("", row.number, reason);
                return Ok(());
            }
        };
        let image = self.places.find(&images, self.about.endings)?;
        let cell = |column: Option<usize>| column.and_then(|column| row.cell(column));
        let split = self.split(path, table, meaning, &image, row)?;
        let unusable = meaning.left_out.iter().find(|(test, _)| test.holds(row)).map(|(_, why)| Reason::from(*why));
        let listed = self.lists.files.is_empty() || split.is_some();
        let unlisted = (!listed).then(|| Reason::from("image is in none of the lists of parts"));
        let view = match unusable.or(unlisted) {
            Some(reason) => Err(reason),
            None => {
                let found = meaning.views.iter().find(|(tests, _)| tests.iter().all(|test| test.holds(row)));
                let first_test = meaning.views.first().and_then(|(tests, _)| tests.first());
                found.map(|(_, view)| *view).ok_or_else(|| match first_test {
                    Some(test) => match cell(test.column) {
                        Some(value) => Reason::from(format!("{} is `{value}`", test.name)),
                        None => Reason::from(format!("{} is missing", test.name)),
                    },
                    None => Reason::from("view is unknown"),
                })
            }
        };
        let acquired = match meaning.time {
            None => None,
            Some((column, read)) => {
                let time = cell(column).and_then(read);
                if time.is_none() {
                    self.assembly.plan.warn("images without a readable time, not used in sequences");
                }
                time
            }
        };
        let report = meaning.report.and_then(|columns| {
            let [impression, findings] = columns.map(|column| cell(column).map(str::to_string));
            let any = impression.is_some() || findings.is_some();
            any.then_some(ReportText::Sections { impression, findings, last_paragraph: None })
        });
        let mut labels: Vec<(String, String)> = Vec::new();
        for (column, label) in &meaning.kept {
            labels.extend(row.cell(*column).map(|cell| (label.clone(), plain(cell))));
        }
        if let (Some(findings), Some(column)) = (&self.about.findings, meaning.findings)
            && let Some(cell) = cell(column)
        {
            findings.tell(cell, &mut labels);
        }
        let split = split.unwrap_or(table.split);
        let reader = match cell(meaning.reader) {
            None => row.number,
            Some(name) => {
                // Rows count from 1, so that readers and rows are never confused.
                let next = u64::MAX - self.readers.len() as u64;
                *self.readers.entry(name.to_string()).or_insert(next)
            }
        };
        let (row, path) = (row.number, image);
        self.pending.push(PendingRow { row, subject, study, path, view, acquired, split, report, reader, labels });
        Ok(())
    }

    /// The split that the split column or a list states.
    fn split(
        &self,
        path: &Path,
        table: &ImageTable,
        meaning: &Meaning,
        image: &Path,
        row: &RowView,
    ) -> Result<Option<SplitAssignment>> {
        if let (Some((name, values)), Some(column)) = (self.about.split, meaning.split) {
            let cell = column.and_then(|column| row.cell(column)).unwrap_or_default();
            let known = values.iter().find(|(value, _)| value.eq_ignore_ascii_case(cell)).map(|(_, split)| *split);
            let expected: Vec<&str> = values.iter().map(|(value, _)| *value).collect();
            return match (known, column) {
                (Some(split), _) => Ok(Some(split)),
                (None, None) => Ok(Some(table.split)),
                (None, Some(_)) => {
                    let message = format!("{name} is `{cell}`; expected {}", expected.join(" or "));
                    Err(Error::Row { path: path.to_path_buf(), row: row.number, message })
                }
            };
        }
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.lists.of_image.get(&*name).copied())
    }

    /// Adds the rows that were collected.
    fn flush(&mut self) -> Result<()> {
        if self.progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let mut pending = std::mem::take(&mut self.pending);
        if self.about.headers {
            pending.par_iter_mut().for_each(of_header);
        }
        self.progress.advance(pending.len() as u64);
        pending.into_iter().try_for_each(|row| self.add(row))
    }

    fn add(&mut self, pending: PendingRow) -> Result<()> {
        let PendingRow { row, subject, study, path, view, acquired, split, report, reader, labels } = pending;
        let view = match view {
            Ok(view) => view,
            Err(reason) => {
                self.assembly.know(&subject, &study, &path);
                self.assembly.plan.skip(path.display().to_string(), row, reason);
                return Ok(());
            }
        };
        let study = StudyId(study);
        let known = self.assembly.index_of(&study).filter(|&index| {
            let planned = &self.assembly.plan.studies[index];
            let images = if view.is_frontal() { &planned.frontals } else { &planned.laterals };
            self.about.repeats != Repeats::No && images.iter().any(|image| image.path == path)
        });
        let split = split.of_subject(&subject);
        let index = match known {
            Some(index) => index,
            None => {
                let subject = SubjectId(subject);
                self.assembly.add(FoundImage { subject, study, view, path, row, acquired, split })?
            }
        };
        if let Some(report) = report {
            self.assembly.report(index, report);
        }
        if self.about.headers {
            self.assembly.label_view(index, view);
        }
        for (name, value) in labels {
            // A lateral image's row does not describe the frontal view.
            if name == VIEW && !view.is_frontal() {
                continue;
            }
            match (self.about.repeats, value.as_str()) {
                (Repeats::Readers(_), "0" | "1") => {
                    let votes = self.votes.entry((index, name)).or_default();
                    match votes.iter_mut().find(|(known, _)| *known == reader) {
                        Some((_, yes)) => *yes |= value == "1",
                        None => votes.push((reader, value == "1")),
                    }
                }
                _ => self.assembly.label(index, &name, value),
            }
        }
        Ok(())
    }
}

/// A whole number as tables write it, without the `.0` of a data frame.
pub(crate) fn plain(cell: &str) -> String {
    cell.strip_suffix(".0").unwrap_or(cell).to_string()
}

/// Takes subject and view from the header of the image.
fn of_header(pending: &mut PendingRow) {
    if pending.view.is_err() {
        return;
    }
    if !pending.path.exists() {
        pending.view = Err("image file does not exist".into());
        return;
    }
    match image::dicom_header(&pending.path) {
        Ok(header) => {
            pending.view = header.view.ok_or_else(|| Reason::from("the DICOM header states no view"));
            if let Some(subject) = header.subject_id.filter(|id| !id.is_empty()) {
                pending.subject = subject;
            }
        }
        Err(error) => pending.view = Err(Reason::of_picture(error)),
    }
}

impl Findings {
    /// Adds the labels of a cell.
    fn tell(&self, cell: &str, labels: &mut Vec<(String, String)>) {
        let names: Vec<&str> = match self.written {
            Written::Separated(separator) => cell.split(separator).map(str::trim).collect(),
            Written::PythonList => {
                let inside = cell.trim().trim_start_matches('[').trim_end_matches(']');
                inside
                    .split(',')
                    .map(|name| name.trim_matches(|c: char| c.is_whitespace() || c == '\'' || c == '"'))
                    .collect()
            }
            Written::Mask(nothing) => {
                let name = self.names[0].0;
                labels.push((name.to_string(), u8::from(cell.trim() != nothing).to_string()));
                return;
            }
        };
        let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        for (ours, theirs) in self.names {
            let there = names.iter().any(|name| theirs.iter().any(|spelling| spelling.eq_ignore_ascii_case(name)));
            labels.push((ours.to_string(), u8::from(there).to_string()));
        }
        if let Some(list) = self.list.filter(|_| !names.is_empty()) {
            labels.push((list.to_string(), names.join("|")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_findings_are_read_with_stray_blanks() {
        let findings = Findings {
            column: "Labels",
            written: Written::PythonList,
            names: &[("pneumonia", &["pneumonia", "atypical pneumonia"]), ("edema", &["pulmonary edema"])],
            list: Some("findings"),
        };
        let mut labels = Vec::new();
        findings.tell("['atypical pneumonia', ' NSG tube', '']", &mut labels);
        let found: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("pneumonia", "1"), ("edema", "0"), ("findings", "atypical pneumonia|NSG tube")]);
        labels.clear();
        findings.tell("[]", &mut labels);
        assert_eq!(labels.len(), 2, "a cell without findings gives labels, too: {labels:?}");
    }
}
