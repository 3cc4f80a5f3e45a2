//! A finished evaluation: as one self-contained page, as Markdown, as JSON.
//!
//! | file | what |
//! |---|---|
//! | `html`, `style.css` | the page |
//! | `plot` | curves and matrices as SVG |
//! | [`picture`] | example studies and heat maps as PNG |
//! | `markdown` | the figures as Markdown |
//! | `leaderboard` | several encoders side by side |

mod html;
mod leaderboard;
mod markdown;
pub mod picture;
mod plot;

pub use leaderboard::{Entry, Leaderboard, Row};

use std::fmt;
use std::path::{Path, PathBuf};

use medst_data::files::whole;
use serde::Serialize;

use self::picture::ExamplePictures;
use super::result::{Figure, Protocol, TaskResult, write_figures};
use super::suite::CorpusResult;
use crate::infer::Origin;
use crate::stats::bootstrap::Bootstrap;
use crate::{Error, Result};

/// How figures are to be read.
const READING: [&str; 4] = [
    "Intervals are 95 % bootstrap intervals over subjects.",
    "Shares are percentages.",
    "Chance is the value that guessing gives on these data.",
    "Figures “as published” come from papers, on the data sets that the papers name; compare them only if the data \
     are the same benchmark.",
];

/// How to read the figures of subgroups.
const SUBGROUPS: &str = "The largest gap is between the subgroups with the highest and the lowest figure. With many subgroups it is partly due \
                         to chance, and its interval is too narrow. A small group has fewer than 20 subjects.";

/// An evaluation with all that is needed to repeat it.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Name and version.
    pub program: String,
    pub engine: String,
    pub command: Vec<String>,
    /// Date and time, UTC.
    pub at: String,
    pub encoder: Origin,
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    pub corpora: Vec<CorpusResult>,
}

impl Evaluation {
    /// An evaluation that this program has just made.
    pub fn new(
        command: Vec<String>,
        encoder: Origin,
        protocol: Protocol,
        bootstrap: Bootstrap,
        corpora: Vec<CorpusResult>,
    ) -> Evaluation {
        let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
        Evaluation {
            program: format!("medst {}", env!("CARGO_PKG_VERSION")),
            engine: format!("libtorch {}", crate::device::ENGINE),
            command,
            at: now.format("%Y-%m-%d %H:%M:%S").to_string(),
            encoder,
            protocol,
            bootstrap,
            corpora,
        }
    }

    /// Writes `report.html`, `report.md` and `results.json`; returns the page's path.
    ///
    /// * `pictures`: of each corpus' examples, in the order of the corpora; may be empty.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, folder: &Path, pictures: &[ExamplePictures]) -> Result<PathBuf> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let json = serde_json::to_string_pretty(self).expect("results are plain data");
        let page = folder.join("report.html");
        let files = [
            (folder.join("results.json"), json + "\n"),
            (folder.join("report.md"), markdown::render(self)),
            (page.clone(), html::render(self, pictures).into_string()),
        ];
        for (path, text) in files {
            whole::write(&path, text.as_bytes())?;
        }
        Ok(page)
    }

    /// The command as typed, with quotes where a shell needs them.
    fn command_line(&self) -> String {
        let plain = |c: char| c.is_alphanumeric() || "-_./=,:+%@".contains(c);
        let quoted = self.command.iter().map(|word| match word.is_empty() || !word.chars().all(plain) {
            true => format!("'{}'", word.replace('\'', r"'\''")),
            false => word.clone(),
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A few tasks are shown in full; of many, only the headline figures.
        let brief = self.corpora.iter().map(|corpus| corpus.tasks.len()).sum::<usize>() > WHOLE;
        for corpus in &self.corpora {
            writeln!(f, "{} ({}), {}", corpus.data.path.display(), corpus.data.source, corpus.data.part)?;
            if brief {
                let named = |task: &'_ TaskResult| format!("{:17}  ", task.task.name());
                let rows: Vec<(String, &Figure)> = corpus
                    .tasks
                    .iter()
                    .flat_map(|task| task.headlines().into_iter().map(move |figure| (named(task), figure)))
                    .collect();
                write_figures(f, &rows)?;
            } else {
                corpus.tasks.iter().try_for_each(|task| write!(f, "\n{task}"))?;
            }
            for refused in &corpus.refused {
                writeln!(f, "  {} was not evaluated: {}", refused.task.name(), refused.reason)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Tasks that are shown with all their figures.
const WHOLE: usize = 2;
