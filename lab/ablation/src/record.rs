//! The record of a unit: its figures. The records of an arm are one small file, one line each, in
//! order of seeds, so that results can be committed and merged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::unit::Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub seed: u64,
    /// Fingerprint of everything the unit was made with. A unit is run again if its record has
    /// another fingerprint.
    pub fingerprint: String,
    /// Which base's weights it started from ([`crate::base::Trained`]); absent where there was
    /// none, or none was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Seconds of pre-training and of evaluation.
    pub seconds: [f64; 2],
    /// For each outcome, the figure and, if known, the value of guessing.
    pub figures: BTreeMap<String, (f64, Option<f64>)>,
    /// Mean losses of the validation split at the end.
    pub losses: BTreeMap<String, f64>,
    /// The same at every validation, where there were several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Point>,
    /// Why the figures are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The losses of a record.
pub const LOSSES: [&str; 5] = ["total", "global", "local", "forward_mapping", "reverse_mapping"];

/// A point of a learning curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    pub step: u64,
    pub losses: BTreeMap<String, f64>,
}

/// The records of an arm.
pub fn path(results: &Path, arm: &str) -> PathBuf {
    results.join(format!("{arm}.jsonl"))
}

/// Reads an arm's records; none if it has no file.
///
/// # Errors
/// A line that is not a record, with its number.
pub fn read(results: &Path, arm: &str) -> Result<Vec<Record>> {
    let path = path(results, arm);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), number + 1))
        })
        .collect()
}

/// Adds or replaces a record; the file is whole at any time.
pub fn write(results: &Path, arm: &str, record: Record) -> Result<()> {
    let mut records = read(results, arm)?;
    records.retain(|other| other.seed != record.seed);
    records.push(record);
    records.sort_by_key(|record| record.seed);
    fs::create_dir_all(results).with_context(|| results.display().to_string())?;
    let lines = records.iter().map(|record| Ok(serde_json::to_string(record)? + "\n")).collect::<Result<String>>()?;
    let (path, fresh) = (path(results, arm), results.join(format!("{arm}.jsonl.new")));
    fs::write(&fresh, lines).with_context(|| fresh.display().to_string())?;
    fs::rename(&fresh, &path).with_context(|| path.display().to_string())
}

/// The record of a unit, if it matches the study's present configuration.
pub fn find<'a>(records: &'a [Record], unit: &Unit, fingerprint: &str) -> Option<&'a Record> {
    records.iter().find(|record| record.seed == unit.seed && record.fingerprint == fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seed: u64, value: f64) -> Record {
        Record {
            seed,
            fingerprint: "f".into(),
            base: None,
            seconds: [1.0, 2.0],
            figures: [("probe".to_string(), (value, Some(0.5)))].into(),
            losses: BTreeMap::new(),
            curve: vec![Point { step: 7, losses: [("total".to_string(), value)].into() }],
            failed: None,
        }
    }

    #[test]
    fn records_replace_their_unit_and_keep_order() {
        let folder = tempfile::tempdir().unwrap();
        for record in [record(2, 0.1), record(9, 0.2), record(1, 0.3), record(2, 0.4)] {
            write(folder.path(), "full", record).unwrap();
        }
        let found = read(folder.path(), "full").unwrap();
        assert_eq!(found, [record(1, 0.3), record(2, 0.4), record(9, 0.2)]);
        assert!(read(folder.path(), "other").unwrap().is_empty());
        let unit = Unit { arm: "full".into(), seed: 1 };
        assert!(find(&found, &unit, "f").is_some() && find(&found, &unit, "g").is_none());
        fs::write(path(folder.path(), "full"), "{}\n").unwrap();
        assert!(format!("{:#}", read(folder.path(), "full").unwrap_err()).contains("line 1"));
    }
}
