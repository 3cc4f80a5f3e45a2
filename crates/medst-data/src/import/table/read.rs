//! Reading a table of images: CSV in any of the forms of `delimited.rs`, or Parquet.
//!
//! One row is one image. Columns: `subject_id`, `view` and `image` are required; `study_id`, `day`
//! (a number) or `acquired` (a date), `report` and `split` are understood; every other column is
//! carried along as a label. Cells without a value (empty, `nan`, `null`, `none`, `n/a`, in any
//! case) are absent.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::super::delimited::{self, Delimited};
use super::super::rows;
use crate::cell::meaning;
use crate::parquet_table::Reader;
use crate::{Error, Result, input, parquet_table};

const REQUIRED: [&str; 3] = ["subject_id", "view", "image"];
const UNDERSTOOD: [&str; 8] = ["subject_id", "study_id", "day", "acquired", "view", "image", "report", "split"];

/// One row: its cells in the order of the columns, which all rows share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Counted from 1, the header not counted.
    pub number: u64,
    columns: Arc<[String]>,
    cells: Box<[Option<Box<str>>]>,
}

impl Row {
    /// The cell of a column.
    pub fn cell(&self, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.cells[index].as_deref()
    }

    /// Cells that say something, by column.
    pub fn cells(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.columns.iter().zip(&self.cells);
        named.filter_map(|(column, cell)| Some((column.as_str(), cell.as_deref()?)))
    }

    /// Cells of columns that are not understood, by name.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.cells().filter(|(column, _)| !is_understood(column))
    }
}

/// A table as read; rows with cells that are not text are listed with the reason.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub columns: Vec<String>,
    /// The line of the file that names the columns; Parquet has no lines.
    pub header_line: Option<u64>,
    pub rows: Vec<Row>,
    pub unreadable: Vec<(u64, String)>,
}

/// Reads a table; its content determines the format.
///
/// # Errors
/// Names the file: unreadable, empty, rows of different lengths, a required column missing (and
/// which there are).
pub fn read(path: &Path) -> Result<Table> {
    let table = read_columns(path)?;
    table.need(path, &REQUIRED)?;
    if table.rows.is_empty() && table.unreadable.is_empty() {
        return Err(fail(path, "the table has no rows"));
    }
    Ok(table)
}

/// Whether a column is one that importers read, and not a label.
pub fn is_understood(column: &str) -> bool {
    UNDERSTOOD.contains(&column)
}

/// Whether a table has all columns that [`read()`] requires.
pub fn lists_views(table: &Table) -> bool {
    REQUIRED.iter().all(|required| table.columns.iter().any(|column| column == required))
}

/// Reads a table with any columns.
///
/// # Errors
/// Names the file: unreadable, rows of different lengths, two columns of one name.
pub fn read_columns(path: &Path) -> Result<Table> {
    let mut start = [0; 4];
    let mut file = input::open(path).map_err(Error::io(path))?;
    let length = file.read(&mut start).map_err(Error::io(path))?;
    let table = match &start[..length] {
        b"PAR1" => read_parquet(path)?,
        _ => read_csv(path)?,
    };
    match table.columns.iter().filter(|name| !name.is_empty()).find_map(|column| rows::doubled(&table.columns, column))
    {
        Some(message) => Err(table.fail_in_header(path, &message)),
        None => Ok(table),
    }
}

impl Table {
    /// # Errors
    /// A missing column: file, line, and the existing columns.
    pub fn need(&self, path: &Path, names: &[&str]) -> Result<()> {
        match names.iter().find(|name| !self.columns.iter().any(|column| column == *name)) {
            Some(name) => Err(self.fail_in_header(path, &rows::missing(&self.columns, name))),
            None => Ok(()),
        }
    }

    fn fail_in_header(&self, path: &Path, message: &str) -> Error {
        match self.header_line {
            Some(line) => fail(path, format!("line {line}: {message}")),
            None => fail(path, message),
        }
    }
}

fn fail(path: &Path, message: impl Into<String>) -> Error {
    Error::Table { path: path.to_path_buf(), message: message.into() }
}

fn read_csv(path: &Path) -> Result<Table> {
    let Delimited { text, separator, header_line } = delimited::open(path)?;
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(text);
    let damaged = |error: csv::Error| fail(path, format!("not a readable CSV table: {error}"));
    let headers = reader.byte_headers().map_err(damaged)?.clone();
    let columns: Vec<String> = headers.iter().map(|name| String::from_utf8_lossy(name).trim().to_string()).collect();
    let names: Arc<[String]> = columns.clone().into();
    let mut table = Table { columns, header_line: Some(header_line), ..Table::default() };
    for (index, record) in reader.byte_records().enumerate() {
        let number = index as u64 + 1;
        let record = record.map_err(|error| match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Error::Row {
                path: path.to_path_buf(),
                row: number,
                message: format!("has {len} cells where the header has {expected_len}"),
            },
            _ => damaged(error),
        })?;
        let mut problem = None;
        let cells = names.iter().zip(record.iter()).map(|(column, cell)| match std::str::from_utf8(cell) {
            Ok(cell) => meaning(cell).map(Box::from),
            Err(_) => {
                problem = Some(format!("`{column}` is not UTF-8"));
                None
            }
        });
        let cells = cells.collect();
        match problem {
            Some(problem) => table.unreadable.push((number, problem)),
            None => table.rows.push(Row { number, columns: names.clone(), cells }),
        }
    }
    Ok(table)
}

fn read_parquet(path: &Path) -> Result<Table> {
    let damaged = |error: parquet_table::Error| fail(path, format!("not a readable Parquet table: {error}"));
    let reader = Reader::new(input::open(path).map_err(Error::io(path))?).map_err(damaged)?;
    let columns: Vec<String> = reader.names().map(str::to_string).collect();
    let names: Arc<[String]> = columns.clone().into();
    let mut table = Table { columns, ..Table::default() };
    for group in reader.groups() {
        let group = group.map_err(damaged)?;
        let column = |index| -> parquet_table::Result<_> {
            let cells = group.cells(index)?.into_iter();
            let cells: Vec<Option<Box<str>>> = cells.map(|cell| meaning(&cell?).map(Box::from)).collect();
            Ok(cells.into_iter())
        };
        let mut columns = (0..names.len()).map(column).collect::<parquet_table::Result<Vec<_>>>().map_err(damaged)?;
        for _ in 0..group.rows() {
            let cells = columns.iter_mut().map(|cells| cells.next().flatten()).collect();
            table.rows.push(Row { number: table.rows.len() as u64 + 1, columns: names.clone(), cells });
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet_table::{Cells, ColumnType, Field, Writer};

    fn table(bytes: &[u8]) -> Result<Table> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    #[test]
    fn cells_that_say_nothing_are_absent_and_other_columns_are_labels() {
        let table = table(b"subject_id,view,image,report,finding\n7,PA,a.png,nan,ARDS\n").unwrap();
        assert_eq!(table.rows[0].cell("report"), None);
        assert_eq!(table.rows[0].labels().collect::<Vec<_>>(), [("finding", "ARDS")]);
    }

    #[test]
    fn unusable_tables_are_refused_with_file_and_reason() {
        for (bytes, expected) in [
            (&b""[..], "column `subject_id` is missing"),
            (b"sep=;\n\nsubject_id;view\n1;PA\n", "line 3: column `image` is missing"),
            (b"subject_id,view,image\n", "no rows"),
            (b"Subject ID,view,image\n1,PA,a\n", "did you mean `Subject ID`"),
            (b"subject_id,view,view,image\n1,PA,AP,a\n", "line 1: two columns are called `view` (the 2. and the 3.)"),
            (b"subject_id,view,image\n1,PA\n", "row 1: has 2 cells where the header has 3"),
            (b"PAR1 but no more", "not a readable Parquet"),
        ] {
            let error = table(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn rows_that_are_no_text_are_listed() {
        let table = table(b"subject_id,view,image,report\n1,PA,a,caf\xe9\n2,PA,b,fine\n").unwrap();
        assert_eq!(table.unreadable, [(1, "`report` is not UTF-8".to_string())]);
        assert_eq!(table.rows.len(), 1);
    }

    #[test]
    fn whole_numbers_in_floating_point_columns_are_ids() {
        let fields = [("subject_id", ColumnType::Double), ("view", ColumnType::Text), ("image", ColumnType::Text)];
        let mut writer =
            Writer::new(Vec::new(), &fields.map(|(name, kind)| Field::optional(name, kind)), false).unwrap();
        let texts = |text| Cells::Text(vec![Some(text); 2]);
        writer.write(&[Cells::Double(vec![Some(10_000_032.0), None]), texts("PA"), texts("a")]).unwrap();
        let table = table(&writer.finish().unwrap()).unwrap();
        assert_eq!(table.rows[0].cell("subject_id"), Some("10000032"));
        assert_eq!(table.rows[1].cell("subject_id"), None);
    }
}
