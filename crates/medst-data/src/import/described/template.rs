//! Ids and paths made from the cells of a row.
//!
//! | in a template | is |
//! |---|---|
//! | `{Column}` | the cell of a column |
//! | `{Column:2}` | its first two characters |
//! | `{Column^1}`, `{Column^2}` | of a path: the folder that holds the file, and the one above |
//! | `{Column<}` | of a path: everything below its first folder |

use std::path::Path;

use crate::import::rows::{RowView, Rows};
use crate::{Reason, Result};

/// The columns of a table, of which some may be missing.
pub struct Columns<'a> {
    pub rows: &'a Rows,
    pub optional: &'a [&'a str],
}

impl Columns<'_> {
    /// The place of a column; `None` for an optional one that the table lacks.
    ///
    /// # Errors
    /// A column that is missing, or that exists twice.
    pub fn find(&self, name: &str) -> Result<Option<usize>> {
        if self.optional.contains(&name) { self.rows.find(name) } else { self.rows.column(name).map(Some) }
    }
}

/// A template with the places of its columns.
#[derive(Debug)]
pub struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Cell { column: Option<usize>, name: String, cut: Cut },
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    First(usize),
    Folder(usize),
    Below,
}

impl Template {
    /// # Errors
    /// A column that the table lacks.
    pub fn parse(text: &str, columns: &Columns) -> Result<Template> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, after) = after.split_once('}').expect("templates are constants whose braces match");
            rest = after;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_string()));
            }
            let number = |digits: &str| digits.parse().expect("templates are constants with numbers after : and ^");
            let (name, cut) = if let Some(name) = inside.strip_suffix('<') {
                (name, Cut::Below)
            } else if let Some((name, digits)) = inside.rsplit_once('^') {
                (name, Cut::Folder(number(digits)))
            } else if let Some((name, digits)) = inside.rsplit_once(':') {
                (name, Cut::First(number(digits)))
            } else {
                (inside, Cut::Whole)
            };
            pieces.push(Piece::Cell { column: columns.find(name)?, name: name.to_string(), cut });
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_string()));
        }
        Ok(Template(pieces))
    }

    /// # Errors
    /// The reason to leave the row out: a cell that is missing or has too few folders.
    pub fn fill(&self, row: &RowView) -> Result<String, Reason> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Cell { column, name, cut } => {
                    let cell = column.and_then(|column| row.cell(column));
                    let cell = cell.ok_or_else(|| format!("{name} is missing"))?;
                    text.push_str(&cut.apply(cell).ok_or_else(|| format!("{name} contains no patient and study ID"))?);
                }
            }
        }
        Ok(text)
    }
}

impl Cut {
    fn apply(self, cell: &str) -> Option<String> {
        let path = Path::new(cell);
        match self {
            Cut::Whole => Some(cell.to_string()),
            Cut::First(count) => Some(cell.chars().take(count).collect()),
            Cut::Folder(up) => Some(path.ancestors().nth(up)?.file_name()?.to_str()?.to_string()),
            Cut::Below => Some(path.components().skip(1).collect::<std::path::PathBuf>().to_str()?.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_cut_as_templates_say() {
        let path = "CheXpert-v1.0/train/patient00001/study2/view1_frontal.jpg";
        assert_eq!(Cut::Folder(1).apply(path).as_deref(), Some("study2"));
        assert_eq!(Cut::Folder(2).apply(path).as_deref(), Some("patient00001"));
        assert_eq!(Cut::Below.apply(path).as_deref(), Some("train/patient00001/study2/view1_frontal.jpg"));
        assert_eq!((Cut::First(2).apply("10000032").as_deref(), Cut::Folder(2).apply("b.jpg")), (Some("10"), None));
    }
}
