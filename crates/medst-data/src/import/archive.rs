//! Pictures inside the parts of one tar archive (zstd, gzip or plain), which is read as a stream:
//! the archive is never unpacked, because it has hundreds of gigabytes.
//!
//! A compressed stream cannot be read from its middle. One pass over it therefore writes a small
//! PNG file for each picture that a plan names, in the form that a corpus stores (about 40 kB
//! each), to a folder next to the corpus. The corpus is made from these files, and the folder is
//! then removed. After an interruption the stream is read again from its start, but only the
//! missing pictures are decoded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::PrepareOptions;
use super::plan::{ImageSource, Plan, Skipped};
use crate::image::{Notes, load, png};
use crate::progress::Progress;
use crate::storage::objects;
use crate::{Error, Reason, Result, owner_only};

const JOURNAL: &str = "journal";
/// Packed pictures that are decoded together, and the bytes that they may have.
const TOGETHER: (usize, usize) = (64, 128 << 20);

/// Files read one after the other.
struct Joined {
    rest: std::vec::IntoIter<PathBuf>,
    open: Option<File>,
}

impl Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(file) = &mut self.open {
                let count = file.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            match self.rest.next() {
                Some(path) => self.open = Some(File::open(path)?),
                None => return Ok(0),
            }
        }
    }
}

/// The tar stream of the archive, decompressed while it is read.
fn stream(parts: &[PathBuf]) -> io::Result<Box<dyn Read>> {
    let joined = Joined { rest: Vec::from(parts).into_iter(), open: None };
    let mut joined = BufReader::with_capacity(1 << 20, joined);
    let start = joined.fill_buf()?;
    Ok(match start {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(joined)?;
            // Archives of this size are packed with long windows.
            decoder.window_log_max(31)?;
            Box::new(decoder)
        }
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(joined)),
        _ => Box::new(joined),
    })
}

/// Extracts the pictures of a plan from an archive, and changes the plan to name the extracted
/// files.
///
/// * `root`: the folder into which the archive would be unpacked; paths of members are relative to
///   it.
/// * `folder`: the folder for the extracted pictures.
///
/// # Errors
/// An archive that is damaged or truncated, a folder that cannot be written, a stop request.
pub fn pictures(
    parts: &[PathBuf],
    root: &Path,
    folder: &Path,
    plan: &mut Plan,
    options: &PrepareOptions,
    progress: &dyn Progress,
) -> Result<()> {
    let wanted: HashSet<PathBuf> = images(plan).filter_map(|image| member_of(root, &image.path)).collect();
    owner_only::create_folder(folder)?;
    let mut done = begin(parts, folder, options)?;
    let mut journal = Journal::open(folder)?;
    let fail = |error: io::Error| {
        let message = format!("the archive is truncated or damaged, or a part is missing: {error}");
        Error::Table { path: parts[0].clone(), message }
    };
    if wanted.iter().any(|member| !done.contains_key(member)) {
        progress.begin("reading the archive", Some(wanted.len() as u64));
        let mut archive = tar::Archive::new(stream(parts).map_err(fail)?);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for entry in archive.entries().map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let member: PathBuf = entry.path().map_err(fail)?.components().filter(is_name).collect();
            if !wanted.contains(&member) {
                continue;
            }
            if done.contains_key(&member) {
                progress.advance(1);
                continue;
            }
            let mut picture = Vec::new();
            let length = entry.size();
            entry.take(length).read_to_end(&mut picture).map_err(fail)?;
            if picture.len() as u64 != length {
                return Err(fail(io::ErrorKind::UnexpectedEof.into()));
            }
            bytes += picture.len();
            batch.push((member, picture));
            if batch.len() >= TOGETHER.0 || bytes >= TOGETHER.1 {
                journal.add(&mut done, decode(std::mem::take(&mut batch), folder, options, progress)?)?;
                bytes = 0;
                if progress.stop_requested() {
                    return Err(Error::Stopped);
                }
            }
        }
        journal.add(&mut done, decode(batch, folder, options, progress)?)?;
        progress.end();
    }
    rename(plan, root, folder, &done);
    Ok(())
}

/// Removes the small pictures.
///
/// # Errors
/// A folder that cannot be removed.
pub fn remove(folder: &Path) -> Result<()> {
    if folder.join(JOURNAL).exists() { fs::remove_dir_all(folder).map_err(Error::io(folder)) } else { Ok(()) }
}

fn is_name(part: &std::path::Component) -> bool {
    matches!(part, std::path::Component::Normal(_))
}

fn images(plan: &Plan) -> impl Iterator<Item = &ImageSource> {
    plan.studies.iter().flat_map(|study| study.frontals.iter().chain(&study.laterals))
}

fn member_of(root: &Path, path: &Path) -> Option<PathBuf> {
    Some(path.strip_prefix(root).ok()?.components().filter(is_name).collect())
}

/// The small picture of a member.
fn small(folder: &Path, member: &Path) -> PathBuf {
    folder.join(member).with_extension("png")
}

/// The outcome for a member of the archive: remarks on it, or the reason why it is left out.
type Outcome = Result<Vec<String>, Reason>;

fn decode(
    batch: Vec<(PathBuf, Vec<u8>)>,
    folder: &Path,
    options: &PrepareOptions,
    progress: &dyn Progress,
) -> Result<Vec<(PathBuf, Outcome)>> {
    let decode_member = |(member, bytes): (PathBuf, Vec<u8>)| {
        let mut notes = Notes::default();
        let square = load::square_of_noting(&bytes, options.image_size, options.decoding, &mut notes);
        progress.advance(1);
        let outcome = match square {
            Ok(pixels) => {
                let side = options.image_size;
                let bytes = png::encode(side, side, ::png::BitDepth::Eight, &pixels)
                    .map_err(|error| Error::Usage(error.to_string()))?;
                let path = small(folder, &member);
                let parent = path.parent().unwrap_or(folder);
                fs::create_dir_all(parent).map_err(Error::io(parent))?;
                fs::write(&path, bytes).map_err(Error::io(&path))?;
                Ok(notes.iter().map(str::to_string).collect())
            }
            Err(reason) => Err(Reason::from(reason)),
        };
        Ok((member, outcome))
    };
    batch.into_par_iter().map(decode_member).collect()
}

/// A line per member: what became of it, after its small picture is written.
struct Journal(PathBuf, File);

impl Journal {
    fn open(folder: &Path) -> Result<Journal> {
        let path = folder.join(JOURNAL);
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Journal(path, file))
    }

    fn add(&mut self, done: &mut HashMap<PathBuf, Outcome>, news: Vec<(PathBuf, Outcome)>) -> Result<()> {
        let lines: String = news.iter().map(|line| format!("{}\n", serde_json::json!(line))).collect();
        self.1.write_all(lines.as_bytes()).and_then(|()| self.1.sync_data()).map_err(Error::io(&self.0))?;
        done.extend(news);
        Ok(())
    }
}

/// The members that an interrupted pass over the same archive with the same settings has finished.
fn begin(parts: &[PathBuf], folder: &Path, options: &PrepareOptions) -> Result<HashMap<PathBuf, Outcome>> {
    let states: Vec<_> = parts.iter().map(|part| objects::state(part)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let identity = format!("{version} {} {:?} {states:?}", options.image_size, options.decoding);
    let path = folder.join(JOURNAL);
    let text = fs::read_to_string(&path).unwrap_or_default();
    // The last line may be cut.
    let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let mut lines = complete.lines();
    if lines.next() != Some(identity.as_str()) {
        fs::write(&path, format!("{identity}\n")).map_err(Error::io(&path))?;
        return Ok(HashMap::new());
    }
    let done = lines.map_while(|line| serde_json::from_str::<(PathBuf, Outcome)>(line).ok()).collect();
    fs::write(&path, complete).map_err(Error::io(&path))?;
    Ok(done)
}

/// Points the plan at the small pictures. A picture that cannot be decoded is left out with its
/// reason; one that the archive does not hold keeps its path, a file that does not exist.
fn rename(plan: &mut Plan, root: &Path, folder: &Path, done: &HashMap<PathBuf, Outcome>) {
    let Plan { studies, skipped, warnings, .. } = plan;
    let mut notes: BTreeMap<&str, u64> = BTreeMap::new();
    for study in studies.iter_mut() {
        for images in [&mut study.frontals, &mut study.laterals] {
            images.retain_mut(|image| {
                let Some((member, outcome)) =
                    member_of(root, &image.path).and_then(|member| done.get_key_value(&member))
                else {
                    return true;
                };
                match outcome {
                    Ok(remarks) => {
                        remarks.iter().for_each(|note| *notes.entry(note).or_default() += 1);
                        image.path = small(folder, member);
                        true
                    }
                    Err(reason) => {
                        skipped.push(Skipped::image(image, reason.clone()));
                        false
                    }
                }
            });
        }
    }
    for (note, count) in notes {
        *warnings.entry(note.to_string()).or_default() += count;
    }
}
