//! The result of a preparation, as the command prints it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::manifest::Counts;
use super::tables::SKIPPED;
use crate::split::Split;

/// The result of a preparation.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub corpus: PathBuf,
    pub counts: Counts,
    /// Rows and files left out, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Remarks on data that were used nevertheless, counted by kind.
    pub warnings: BTreeMap<String, u64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "corpus {}", self.corpus.display())?;
        write!(f, "{}", self.counts)?;
        for (what, lines) in [("skipped", &self.skipped), ("note", &self.warnings)] {
            for (reason, count) in lines {
                writeln!(f, "  {what:8} {count:>7}  {reason}")?;
            }
        }
        if !self.skipped.is_empty() {
            writeln!(f, "  every skipped row is listed in {}", self.corpus.join(SKIPPED).display())?;
        }
        Ok(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {} studies of {} subjects, {} images; {} with a report, {} with a lateral view",
            self.studies, self.subjects, self.images, self.with_report, self.with_lateral
        )?;
        let splits = Split::ALL.map(|split| format!("{split} {}", self.by_split.get(&split).copied().unwrap_or(0)));
        writeln!(f, "  {}", splits.join(", "))?;
        writeln!(f, "  {} sequences, {} of them full", self.sequences, self.full_sequences)?;
        if self.with_report < self.studies {
            let without_report = self.studies - self.with_report;
            writeln!(f, "  {without_report} studies have no report: usable for image-only jobs, not for pre-training")?;
        }
        Ok(())
    }
}
