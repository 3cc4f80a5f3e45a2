//! Boxes of a described source: a separate table, or columns of the table of images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::template::{Columns, Template};
use super::{Description, existing, renamed};
use crate::boxes::{self, Boxes, Region};
use crate::image::{self, size};
use crate::import::assemble::Assembly;
use crate::import::rows::{RowView, Rows};
use crate::study::StudyId;
use crate::{Error, Reason, Result};

/// How the tables of a source describe boxes.
#[derive(Debug)]
pub struct BoxTable {
    /// The tables that exist are read; none are named where the table of images holds the boxes.
    pub names: &'static [&'static str],
    /// The study whose picture has the box: a template.
    pub study: &'static str,
    pub phrase: Phrase,
    pub corners: Corners,
    pub size: Size,
}

/// The source of the phrase of a box.
#[derive(Debug)]
pub enum Phrase {
    /// The text of a column.
    Text(&'static str),
    /// The finding that a column names.
    Finding(&'static str),
    Always(&'static str),
}

#[derive(Debug)]
pub enum Corners {
    /// Left, top, width, height.
    Sides([&'static str; 4]),
    /// Left, top, right, bottom.
    Ends([&'static str; 4]),
    /// A mask in a column: pairs of gap and length, down the columns of the picture. Its bounds are
    /// the box.
    Runs(&'static str),
}

/// The size of the picture that the numbers are pixels of.
#[derive(Debug)]
pub enum Size {
    Fixed(u32),
    /// Columns of width and height.
    Columns([&'static str; 2]),
    /// That of the file.
    Picture,
}

/// Gives studies the label `boxes`; returns the tables read in addition to those of the images.
///
/// # Errors
/// A missing column or an invalid number; names file and row.
pub fn read(
    table: &BoxTable,
    about: &Description,
    root: &Path,
    of_images: &[PathBuf],
    assembly: &mut Assembly,
) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = table.names.iter().filter_map(|name| existing(root, &[*name])).collect();
    if paths.is_empty() && !table.names.is_empty() {
        assembly.plan.warn(format!("no {}: studies have no boxes", table.names.join(" or ")));
        return Ok(paths);
    }
    let mut of_study = OfStudy::new();
    for path in if table.names.is_empty() { of_images } else { &paths } {
        read_table(table, about, path, assembly, &mut of_study)?;
    }
    let unsized_pictures: Vec<(usize, PathBuf)> = of_study
        .iter()
        .filter(|(_, (size, _))| size.is_none())
        .filter_map(|(index, _)| Some((*index, assembly.plan.studies[*index].frontals.first()?.path.clone())))
        .collect();
    let sizes: Vec<(usize, Option<[f64; 2]>)> =
        unsized_pictures.par_iter().map(|(index, path)| (*index, picture_size(path))).collect();
    for (index, size) in sizes {
        of_study.entry(index).or_default().0 = size;
    }
    for (index, (size, regions)) in of_study {
        let Some([width, height]) = size else {
            assembly.plan.warn("boxes not used: the picture is missing or unreadable, so its size is unknown");
            continue;
        };
        let label = Boxes { width, height, regions };
        match Boxes::parse(&label.to_label()) {
            Ok(_) => assembly.label(index, boxes::LABEL, label.to_label()),
            Err(_) => assembly.plan.warn("boxes not used: a box is empty or outside the picture"),
        }
    }
    Ok(paths)
}

/// The size of a study's picture where it is known, and its boxes.
type OfStudy = BTreeMap<usize, (Option<[f64; 2]>, Vec<Region>)>;

fn read_table(
    table: &BoxTable,
    about: &Description,
    path: &Path,
    assembly: &mut Assembly,
    of_study: &mut OfStudy,
) -> Result<()> {
    let mut rows = Rows::open(path)?;
    let columns = Columns { rows: &rows, optional: about.optional };
    let all = |names: &[&'static str]| names.iter().map(|name| columns.find(name)).collect::<Result<Vec<_>>>();
    let study = Template::parse(table.study, &columns)?;
    let phrase = match table.phrase {
        Phrase::Text(name) | Phrase::Finding(name) => columns.find(name)?,
        Phrase::Always(_) => None,
    };
    let (names, corners) = match &table.corners {
        Corners::Sides(names) | Corners::Ends(names) => (names.to_vec(), all(names)?),
        Corners::Runs(name) => (vec![*name], all(&[*name])?),
    };
    let of_picture = match &table.size {
        Size::Columns(names) => all(names)?,
        _ => Vec::new(),
    };
    rows.each(|row| {
        let fail = |reason: Reason| Error::Row { path: path.to_path_buf(), row: row.number, message: reason.into() };
        let Ok(study) = study.fill(&row) else { return Ok(()) };
        let fixed = match table.size {
            Size::Fixed(side) => Some([f64::from(side); 2]),
            _ => None,
        };
        let Some(ends) = ends(table, &names, &corners, &row, fixed).map_err(fail)? else { return Ok(()) };
        let Some(index) = assembly.index_of(&StudyId(study)) else {
            assembly.plan.warn("boxes of images that are not used");
            return Ok(());
        };
        let size = match of_picture.as_slice() {
            [width, height] => {
                Some([number(&row, *width, "width").map_err(fail)?, number(&row, *height, "height").map_err(fail)?])
            }
            _ => fixed,
        };
        let cell = phrase.and_then(|column| row.cell(column));
        let phrase = match (&table.phrase, cell) {
            (Phrase::Always(phrase), _) => phrase.to_string(),
            (Phrase::Text(_), Some(text)) => text.to_string(),
            (Phrase::Finding(_), Some(name)) => renamed(about, name).replace('_', " ").to_lowercase(),
            (_, None) => {
                assembly.plan.warn("boxes without a phrase or a finding");
                return Ok(());
            }
        };
        let [left, top, right, bottom] = ends;
        let (known, regions) = of_study.entry(index).or_default();
        *known = known.or(size);
        regions.push(Region { phrase, left, top, right, bottom });
        Ok(())
    })
}

/// `[left, top, right, bottom]`; `None` for a row without a box.
fn ends(
    table: &BoxTable,
    names: &[&str],
    columns: &[Option<usize>],
    row: &RowView,
    size: Option<[f64; 2]>,
) -> Result<Option<[f64; 4]>, Reason> {
    if let Corners::Runs(_) = table.corners {
        let [_, height] = size.unwrap_or_default();
        let cell = columns[0].and_then(|column| row.cell(column)).unwrap_or("-1");
        return runs(cell, height as u64);
    }
    if columns.iter().all(|column| column.and_then(|column| row.cell(column)).is_none()) {
        return Ok(None);
    }
    let mut values = [0.0; 4];
    for ((value, column), name) in values.iter_mut().zip(columns).zip(names) {
        *value = number(row, *column, name)?;
    }
    if let Corners::Sides(_) = table.corners {
        values[2] += values[0];
        values[3] += values[1];
    }
    Ok(Some(values))
}

fn number(row: &RowView, column: Option<usize>, name: &str) -> Result<f64, Reason> {
    let cell = column.and_then(|column| row.cell(column)).unwrap_or_default();
    let value = cell.parse::<f64>().ok().filter(|value| value.is_finite());
    value.ok_or_else(|| format!("{name} of a box is `{cell}`, which is not a number").into())
}

/// The bounds of a mask. Each run begins a number of pixels after the end of the one before; pixels
/// are counted down the columns of a picture `height` pixels high.
fn runs(cell: &str, height: u64) -> Result<Option<[f64; 4]>, Reason> {
    let numbers: Option<Vec<u64>> = match cell.trim() {
        "-1" => return Ok(None),
        cell => cell.split_whitespace().map(|number| number.parse().ok()).collect(),
    };
    let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0 && !numbers.is_empty());
    let numbers = numbers.ok_or("a mask must consist of pairs of numbers")?;
    let (mut at, mut bounds) = (0u64, [u64::MAX, u64::MAX, 0, 0]);
    for pair in numbers.chunks_exact(2) {
        let [gap, length] = [pair[0], pair[1]];
        at = at.saturating_add(gap);
        let end = at.saturating_add(length);
        if length == 0 || end > height * height {
            return Err("a run of a mask is empty or extends beyond the picture".into());
        }
        let last = end - 1;
        let (first_column, last_column) = (at / height, last / height);
        let (top, bottom) = if first_column == last_column { (at % height, last % height) } else { (0, height - 1) };
        bounds[0] = bounds[0].min(first_column);
        bounds[1] = bounds[1].min(top);
        bounds[2] = bounds[2].max(last_column + 1);
        bounds[3] = bounds[3].max(bottom + 1);
        at = end;
    }
    Ok(Some(bounds.map(|value| value as f64)))
}

/// Width and height of a picture; `None` if the file is missing or does not state them.
pub(crate) fn picture_size(path: &Path) -> Option<[f64; 2]> {
    if let Ok(header) = image::dicom_header(path) {
        return Some([header.columns? as f64, header.rows? as f64]);
    }
    let size = size::declared(&std::fs::read(path).ok()?).ok()?;
    Some(size.map(|side| side as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_a_mask_follow_its_runs_down_the_columns() {
        // Rows 2 to 4 of column 1, rows 3 to 5 of column 2, in a picture 10 pixels high.
        assert_eq!(runs("12 3 8 3", 10), Ok(Some([1.0, 2.0, 3.0, 6.0])));
        assert_eq!(runs(" -1", 10), Ok(None));
        // A run around the end of a column takes both columns whole.
        assert_eq!(runs("8 4", 10), Ok(Some([0.0, 0.0, 2.0, 10.0])));
        for broken in ["1", "1 x", "99 2", "3 0"] {
            assert!(runs(broken, 10).is_err(), "{broken}");
        }
    }
}
