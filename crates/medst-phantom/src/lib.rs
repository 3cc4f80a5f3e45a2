//! The phantom cohort: synthetic patients with known truth.
//!
//! Real archives of radiographs with reports require credentials. This crate draws similar
//! patients: individual bodies, findings that appear and disappear over visits, frontal and lateral
//! radiographs, reports that agree with them, and the ground truth.
//!
//! | file | what |
//! |---|---|
//! | `anatomy`, [`finding`] | bodies and findings, as shapes |
//! | [`canvas`], [`projection`], `film` | shapes to attenuation to a picture |
//! | [`course`], `report` | change over visits, words |
//! | `difficulty` | what makes a cohort hard |
//! | [`cohort`] | patients: everything above, from a seed |
//! | [`layout`], `sheet` | files |

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub(crate) mod anatomy;
pub mod canvas;
pub mod cohort;
pub mod course;
pub(crate) mod difficulty;
pub(crate) mod film;
pub mod finding;
pub mod layout;
pub mod projection;
pub(crate) mod report;
pub(crate) mod sheet;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use difficulty::Difficulty;
pub use layout::{Layout, folders};
pub use sheet::contact_sheet;

use medst_data::progress::Progress;
use medst_data::{Error, Result};

/// The options that determine the bytes of a cohort.
#[derive(Clone, Debug, Serialize)]
pub struct PhantomOptions {
    pub subjects: u32,
    pub seed: u64,
    /// Longest side of a picture in pixels.
    pub size: u32,
    #[serde(skip_serializing_if = "is_plain")]
    pub difficulty: Difficulty,
    /// Several go into folders of their names, the table alone into the folder itself.
    #[serde(skip_serializing_if = "is_table")]
    pub layouts: Vec<Layout>,
}

fn is_plain(difficulty: &Difficulty) -> bool {
    *difficulty == Difficulty::Plain
}

fn is_table(layouts: &[Layout]) -> bool {
    layouts == [Layout::Table]
}

impl Default for PhantomOptions {
    fn default() -> Self {
        PhantomOptions {
            subjects: 200,
            seed: 0,
            size: 512,
            difficulty: Difficulty::Plain,
            layouts: vec![Layout::Table],
        }
    }
}

/// Counts of what [`generate`] wrote.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PhantomSummary {
    pub folder: PathBuf,
    pub layouts: Vec<Layout>,
    pub subjects: u32,
    pub studies: usize,
    pub laterals: usize,
    pub images: usize,
}

impl fmt::Display for PhantomSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PhantomSummary { folder, layouts, subjects, studies, laterals, images } = self;
        writeln!(f, "phantom cohort {}", folder.display())?;
        writeln!(f, "  {subjects} patients, {studies} studies ({laterals} with a lateral view), {images} images")?;
        for (layout, folder) in layout::folders(folder, layouts) {
            let place = if layout == Layout::Table { folder.join(layout::STUDIES) } else { folder };
            writeln!(f, "  {:<18}  {}", layout.name(), place.display())?;
        }
        writeln!(f, "  truth               {}", folder.join(layout::TRUTH).display())
    }
}

/// The last file written; a folder without it is not a complete cohort.
const MARK: &str = "cohort.json";
/// Exists while a cohort is being drawn. Only a folder that contains it, with [`OURS`] inside, is
/// ever cleared.
const UNFINISHED: &str = "unfinished";
const OURS: &str = "medst-phantom: this cohort is unfinished; `medst phantom` replaces it\n";

/// Draws a cohort into a folder. The same options give the same bytes, with any number of threads.
///
/// # Errors
/// A folder that cannot be written, or that is not empty (unless it holds only an interrupted
/// cohort of this program); a stop request.
pub fn generate(out: &Path, options: &PhantomOptions, progress: &dyn Progress) -> Result<PhantomSummary> {
    if options.layouts.is_empty() {
        return Err(Error::Usage("a phantom cohort needs at least one layout".into()));
    }
    if options.subjects == 0 || !(64..=4096).contains(&options.size) {
        return Err(Error::Usage(
            "a phantom cohort needs at least one subject, and images of 64 to 4096 pixels".into(),
        ));
    }
    fs::create_dir_all(out).map_err(Error::io(out))?;
    clear_interrupted(out)?;
    let unfinished = out.join(UNFINISHED);
    fs::write(&unfinished, OURS).map_err(Error::io(&unfinished))?;
    let summary = layout::write(out, options, progress)?;
    let about = serde_json::json!({ "format": "medst-phantom", "version": 1, "options": options });
    let mark = out.join(MARK);
    fs::write(&mark, format!("{about:#}\n")).map_err(Error::io(&mark))?;
    fs::remove_file(&unfinished).map_err(Error::io(&unfinished))?;
    Ok(summary)
}

/// Empties a folder in which drawing was interrupted. Refuses a folder that contains anything else,
/// without changing it.
fn clear_interrupted(out: &Path) -> Result<()> {
    let refuse = |what: &str| Err(Error::Usage(format!("{} {what}; choose another folder", out.display())));
    let mut names = Vec::new();
    for entry in fs::read_dir(out).map_err(Error::io(out))? {
        names.push(entry.map_err(Error::io(out))?.file_name());
    }
    if names.is_empty() {
        return Ok(());
    }
    if fs::read(out.join(UNFINISHED)).ok().as_deref() != Some(OURS.as_bytes()) {
        return refuse("is not empty");
    }
    let files = [layout::STUDIES, layout::TRUTH, MARK, UNFINISHED];
    let folders: Vec<&str> = Layout::ALL.iter().map(|layout| layout.name()).chain([layout::IMAGES]).collect();
    if let Some(foreign) = names.iter().find(|name| !files.iter().chain(&folders).any(|ours| name == ours)) {
        return refuse(&format!("contains an interrupted cohort and other files, such as {}", foreign.display()));
    }
    for folder in folders.into_iter().map(|name| out.join(name)).filter(|folder| folder.exists()) {
        fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
    }
    // Our marker is removed last, so that an interrupted clearing can be resumed.
    for name in files {
        let path = out.join(name);
        if path.exists() {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}
