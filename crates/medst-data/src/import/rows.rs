//! Streaming the rows of a CSV file (`delimited.rs` has the forms it may have): memory does not
//! grow with its length.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::delimited::{self, Delimited};
use super::plan::Plan;
use crate::cell::meaning;
use crate::{Error, Result};

/// The longest line that is taken for a row; a file without line breaks is not a table.
const LONGEST_ROW: usize = 16 << 20;

/// An open table.
pub struct Rows {
    path: PathBuf,
    columns: Vec<String>,
    /// The line of the file that names the columns.
    header_line: u64,
    reader: csv::Reader<Box<dyn Read>>,
}

/// One row; cells without a value (empty, `nan`, `null`, `none`, `n/a`) are absent.
pub struct RowView<'a> {
    /// Counted from 1, the header not counted.
    pub number: u64,
    record: &'a csv::StringRecord,
}

impl RowView<'_> {
    /// The cell of a column.
    pub fn cell(&self, column: usize) -> Option<&str> {
        self.record.get(column).and_then(meaning)
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.record.len()
    }

    pub fn is_empty(&self) -> bool {
        self.record.is_empty()
    }
}

/// An error message if two columns have that name.
pub fn doubled(columns: &[String], name: &str) -> Option<String> {
    let mut numbers = columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(index, _)| index + 1);
    let (first, second) = (numbers.next()?, numbers.next()?);
    Some(format!("two columns are called `{name}` (the {first}. and the {second}.); rename one"))
}

/// An error message for a missing column, with a similar name if there is one, and all columns.
pub fn missing(columns: &[String], name: &str) -> String {
    let near = columns.iter().find(|column| resembles(column, name));
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("column `{name}` is missing{hint} (columns: {})", columns.join(", "))
}

/// Whether a column's name is nearly the wanted one: other case, blanks, or a part of it.
fn resembles(column: &str, wanted: &str) -> bool {
    let plain = |name: &str| name.to_lowercase().replace([' ', '-', '_'], "");
    let (column, wanted) = (plain(column), plain(wanted));
    column.contains(&wanted) || (column.len() >= 4 && wanted.contains(&column))
}

impl Rows {
    /// Opens a table whose first row names its columns.
    ///
    /// # Errors
    /// A file that does not exist, or has no header.
    pub fn open(path: &Path) -> Result<Rows> {
        let Delimited { text, separator, header_line } = delimited::open(path)?;
        let reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(text);
        let mut rows = Rows { path: path.to_path_buf(), columns: Vec::new(), header_line, reader };
        let header = rows.reader.headers().map_err(|error| damaged(path, 0, &error))?;
        rows.columns = header.iter().map(|name| name.trim().to_string()).collect();
        if rows.columns.iter().all(String::is_empty) {
            return Err(rows.fail("the table is empty".into()));
        }
        Ok(rows)
    }

    /// Opens a list without a header whose cells are separated by blanks; rows may differ in
    /// length.
    ///
    /// # Errors
    /// A file that does not exist.
    pub fn open_list(path: &Path) -> Result<Rows> {
        let text = delimited::open_text(path)?;
        let reader = csv::ReaderBuilder::new().delimiter(b' ').has_headers(false).flexible(true).from_reader(text);
        Ok(Rows { path: path.to_path_buf(), columns: Vec::new(), header_line: 0, reader })
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The position of the column with that name, if there is one.
    ///
    /// # Errors
    /// Two columns with that name: file, line and both positions.
    pub fn find(&self, name: &str) -> Result<Option<usize>> {
        match doubled(&self.columns, name) {
            Some(message) => Err(self.fail_in_header(&message)),
            None => Ok(self.columns.iter().position(|column| column == name)),
        }
    }

    /// The position of a column that must exist.
    ///
    /// # Errors
    /// A missing or duplicate column: file, line, and the existing columns.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.find(name)?.ok_or_else(|| self.fail_in_header(&missing(&self.columns, name)))
    }

    /// Like [`Rows::find`]; notes a missing column in the plan, with the line.
    ///
    /// # Errors
    /// As [`Rows::find`].
    pub fn optional(&self, name: &str, plan: &mut Plan) -> Result<Option<usize>> {
        let found = self.find(name)?;
        if found.is_none() {
            let file = self.path.file_name().unwrap_or_default().display();
            plan.warn(format!("{file}, line {}: {}", self.header_line, missing(&self.columns, name)));
        }
        Ok(found)
    }

    /// An error of the line that names the columns.
    pub fn fail_in_header(&self, message: &str) -> Error {
        self.fail(format!("line {}: {message}", self.header_line))
    }

    /// An error of this table.
    pub fn fail(&self, message: String) -> Error {
        Error::Table { path: self.path.clone(), message }
    }

    /// Visits every row.
    ///
    /// # Errors
    /// Those of the visit, and damaged rows by number.
    pub fn each(&mut self, mut visit: impl FnMut(RowView) -> Result<()>) -> Result<()> {
        let (mut bytes, mut number) = (csv::ByteRecord::new(), 0);
        loop {
            let more =
                self.reader.read_byte_record(&mut bytes).map_err(|error| damaged(&self.path, number + 1, &error))?;
            if !more {
                return Ok(());
            }
            number += 1;
            if bytes.as_slice().len() > LONGEST_ROW {
                let message = format!("is too long (limit {LONGEST_ROW} bytes)");
                return Err(Error::Row { path: self.path.clone(), row: number, message });
            }
            // Bytes that are not UTF-8 become replacement characters, which the cleaning of reports
            // drops.
            let record = csv::StringRecord::from_byte_record_lossy(std::mem::take(&mut bytes));
            visit(RowView { number, record: &record })?;
            bytes = record.into_byte_record();
        }
    }
}

fn damaged(path: &Path, row: u64, error: &csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Error::Row {
            path: path.to_path_buf(),
            row,
            message: format!("has {len} cells where the header has {expected_len}"),
        },
        csv::ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::Table { path: path.to_path_buf(), message: format!("the file is truncated after row {row}") }
        }
        _ => Error::Table { path: path.to_path_buf(), message: format!("not a readable table: {error}") },
    }
}
