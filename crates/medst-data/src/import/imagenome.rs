//! Chest ImaGenome 1.0.0, the gold comparisons: the course of findings between two images of
//! MIMIC-CXR, a row per region. A finding that changes in the same way in all regions has that
//! course in the pair; one that changes in several ways has none.

use std::path::PathBuf;

use super::assemble::Assembly;
use super::courses::{self, Courses};
use super::ids::image_name;
use super::mimic_cxr::MimicCxr;
use super::mimic_cxr::named::Named;
use super::rows::Rows;
use super::{Planned, PrepareOptions};
use crate::progress::Progress;
use crate::split::Split;
use crate::{Error, Result};

const GOLD: &str = "gold_object_comparison_with_coordinates.txt";

/// The source's names of findings that the program calls otherwise.
const NAMES: [(&str, &str); 2] =
    [("pulmonary edema/hazy opacity", "edema"), ("enlarged cardiac silhouette", "cardiomegaly")];

/// The folders of the parts.
#[derive(Clone, Debug, Default)]
pub struct Imagenome {
    /// The folder with `gold_dataset`.
    pub root: PathBuf,
    /// The MIMIC-CXR whose images are compared.
    pub images: MimicCxr,
}

/// A row of the table.
struct Comparison {
    row: u64,
    /// Previous, current.
    images: [String; 2],
    finding: String,
    course: &'static str,
}

/// Reads the comparisons, and where the images are.
///
/// # Errors
/// A table that is missing or cannot be understood.
pub fn plan(source: &Imagenome, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
    let tables = [source.root.join("gold_dataset").join(GOLD), source.root.join(GOLD)];
    let table = tables.into_iter().find(|path| path.exists()).ok_or_else(|| {
        let root = source.root.display();
        Error::Usage(format!("{root} is not Chest ImaGenome: it has no gold_dataset/{GOLD}"))
    })?;
    let comparisons = read(&table)?;
    let ids = comparisons.iter().flat_map(|comparison| comparison.images.clone());
    let (images, main) = Named::find(&source.images, ids, Split::Test, progress)?;
    let mut assembly = Assembly::new(&table, options)?;
    let (mut courses, mut sequences) = (Courses::default(), Vec::new());
    for Comparison { row, images: ids, finding, course } in &comparisons {
        let Some(indices) = images.add_all(&mut assembly, ids, *row)? else { continue };
        let pair = courses.pair([&ids[0], &ids[1]]);
        if pair == sequences.len() {
            sequences.push(indices);
        }
        courses.tell(pair, finding, course);
    }
    assembly.plan.sequences = Some(sequences);
    let mut plan = assembly.finish(options)?;
    courses.finish(&mut plan);
    Ok(Planned { plan, files: vec![table, main] })
}

fn read(path: &std::path::Path) -> Result<Vec<Comparison>> {
    let mut rows = Rows::open(path)?;
    let [previous, current] = [rows.column("previous_image_id")?, rows.column("current_image_id")?];
    let [finding, comparison] = [rows.column("label_name")?, rows.column("comparison")?];
    let mut comparisons = Vec::new();
    rows.each(|row| {
        let fail = |message: String| Error::Row { path: path.to_path_buf(), row: row.number, message };
        let cell = |column: usize, name: &str| row.cell(column).ok_or_else(|| fail(format!("{name} is missing")));
        // Ids are written as file names, `….dcm`.
        let id = |id: &str| image_name(std::path::Path::new(id));
        let images = [id(cell(previous, "previous_image_id")?), id(cell(current, "current_image_id")?)];
        let name = cell(finding, "label_name")?.to_lowercase();
        let finding =
            NAMES.iter().find(|(theirs, _)| *theirs == name).map_or(name.as_str(), |(_, ours)| *ours).to_string();
        let word = cell(comparison, "comparison")?;
        let course = courses::parse(word);
        let course =
            course.ok_or_else(|| fail(format!("comparison is `{word}`; expected improved, no change or worsened")))?;
        comparisons.push(Comparison { row: row.number, images, finding, course });
        Ok(())
    })?;
    Ok(comparisons)
}
