//! Records the progress of a preparation, so that a later run, with any number of processes, can
//! continue an interrupted one.
//!
//! Pictures are decoded in *stretches*: consecutive pictures in the order of the plan, decoded by
//! one process. A stretch has its own files (`part-FIRST-NNNNN.npy`, like shards) and its own
//! journal (`journal-FIRST.jsonl`), each line of which describes one block of pictures that are
//! safely on the disk. `journal.jsonl` identifies the preparation.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{entries, whole};
use crate::{Error, Result, json};

/// Identifies a preparation: a working folder has it first and loses it last.
pub const JOURNAL: &str = "journal.jsonl";

/// Pictures that one process decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The place of its first picture in the plan.
    pub first: usize,
    /// For each picture, the reason why it was left out, if it was.
    pub failures: Vec<Option<String>>,
    /// Remarks on pictures that were read, counted by kind.
    #[serde(default)]
    pub notes: BTreeMap<String, u64>,
}

/// The length of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub first: usize,
    /// Pictures that were read, with and without success.
    pub decoded: usize,
    /// Pictures that its files hold.
    pub stored: usize,
}

impl Stretch {
    pub fn extent(&self) -> Extent {
        let stored = self.failures.iter().filter(|failure| failure.is_none()).count();
        Extent { first: self.first, decoded: self.failures.len(), stored }
    }
}

impl Extent {
    pub fn end(&self) -> usize {
        self.first + self.decoded
    }

    /// Prefix of the names of its files.
    pub fn part(&self) -> String {
        format!("part-{:09}", self.first)
    }
}

/// One line of a journal.
#[derive(Serialize, Deserialize)]
struct Block {
    failures: Vec<Option<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, u64>,
}

/// Adds counts to others.
pub fn add_counts(counts: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (note, count) in more {
        *counts.entry(note.clone()).or_default() += count;
    }
}

fn path(folder: &Path, first: usize) -> PathBuf {
    folder.join(format!("journal-{first:09}.jsonl"))
}

/// The journal of a stretch that grows.
pub struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    pub fn open(folder: &Path, first: usize) -> Result<Lines> {
        let path = path(folder, first);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Lines { path, file })
    }

    /// Records a block. Its pictures must already be on the disk, because the journal must never be
    /// ahead of them.
    pub fn add(&mut self, failures: Vec<Option<String>>, notes: BTreeMap<String, u64>) -> Result<()> {
        let line = json::text(&Block { failures, notes }) + "\n";
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))
    }
}

/// What the journals of a working folder are of.
pub enum JournalState {
    /// There are none.
    Absent,
    /// A preparation from other sources or with other settings.
    OtherPreparation,
    /// This preparation: its stretches, in order, none of them empty.
    ThisPreparation(Vec<Stretch>),
}

/// Reads the journals, and repairs those that end in the middle of a line: the block of that line
/// is decoded again.
///
/// * `images`: pictures of the whole plan.
pub fn read(folder: &Path, identity: &str, images: usize) -> Result<JournalState> {
    match fs::read_to_string(folder.join(JOURNAL)) {
        Err(_) => return Ok(JournalState::Absent),
        Ok(text) if text.trim_end() != identity => return Ok(JournalState::OtherPreparation),
        Ok(_) => {}
    }
    let mut stretches = Vec::new();
    for file in entries(folder)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix("journal-").and_then(|rest| rest.strip_suffix(".jsonl"));
        let Some(first) = number.and_then(|number| number.parse().ok()) else { continue };
        let text = fs::read(&file).map_err(Error::io(&file))?;
        let mut stretch = Stretch { first, ..Stretch::default() };
        let mut end = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let Ok(block) = serde_json::from_slice::<Block>(line) else { break };
            stretch.failures.extend(block.failures);
            add_counts(&mut stretch.notes, &block.notes);
            end += line.len();
        }
        if stretch.failures.is_empty() {
            fs::remove_file(&file).map_err(Error::io(&file))?;
            continue;
        }
        if end < text.len() {
            whole::write(&file, &text[..end])?;
        }
        stretches.push(stretch);
    }
    stretches.sort_by_key(|stretch| stretch.first);
    let ends = stretches.iter().map(|stretch| stretch.extent().end());
    let limits = stretches.iter().skip(1).map(|stretch| stretch.first).chain([images]);
    if ends.zip(limits).any(|(end, limit)| end > limit) {
        return Ok(JournalState::OtherPreparation);
    }
    Ok(JournalState::ThisPreparation(stretches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_forgotten_and_the_others_count() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(JOURNAL), "me\n").unwrap();
        let mut lines = Lines::open(folder.path(), 7).unwrap();
        let notes = BTreeMap::from([("a remark".to_string(), 1)]);
        lines.add(vec![None, Some("no picture".into())], notes.clone()).unwrap();
        lines.file.write_all(b"{\"failures\":[nul").unwrap();
        Lines::open(folder.path(), 3).unwrap();
        let JournalState::ThisPreparation(stretches) = read(folder.path(), "me", 9).unwrap() else {
            panic!("it is this preparation's")
        };
        assert_eq!(
            stretches.iter().map(Stretch::extent).collect::<Vec<_>>(),
            [Extent { first: 7, decoded: 2, stored: 1 }]
        );
        assert_eq!(stretches[0].notes, notes);
        Lines::open(folder.path(), 7).unwrap().add(vec![None], BTreeMap::new()).unwrap();
        // More pictures than the plan has: another plan's.
        assert!(matches!(super::read(folder.path(), "me", 9).unwrap(), JournalState::OtherPreparation));
        assert!(matches!(super::read(folder.path(), "you", 10).unwrap(), JournalState::OtherPreparation));
    }
}
