//! Reading columns by name and type, a row group at a time.

use std::fs::File;

use parquet::basic::Type as Physical;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescPtr;

use super::pages::Checked;
use super::schema::{Column, Meaning, Node};
use super::{Error, Result, cells, guarded};

/// Rows that are decoded at once.
const PIECE: usize = 1024;
/// Most rows per byte of a file. Equal rows take no room, but those of a table have names.
const ROWS_PER_BYTE: u64 = 256;
/// Elements for which room is made before they are seen.
const RESERVED: usize = 1 << 12;

/// An open table.
pub struct Reader {
    file: SerializedFileReader<File>,
    columns: Vec<Column>,
}

impl Reader {
    /// # Errors
    /// A file that is not in Parquet, or whose number of rows cannot be.
    pub fn new(file: File) -> Result<Reader> {
        guarded(|| {
            let bytes = file.metadata().map_err(|error| Error::Parquet(error.into()))?.len();
            let file = SerializedFileReader::new(file)?;
            let metadata = file.metadata();
            let mut rows = metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
            let rows = rows.try_fold(0u64, |sum, rows| sum.checked_add(rows?));
            if rows.is_none_or(|rows| rows > bytes.saturating_mul(ROWS_PER_BYTE)) {
                return Err(Error::Damaged("it declares more rows than it can hold"));
            }
            let columns = Column::all(metadata.file_metadata().schema());
            Ok(Reader { file, columns })
        })
    }

    /// The names of the columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// The row groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = Result<Group<'_>>> {
        (0..self.file.num_row_groups())
            .map(|number| guarded(|| Ok(Group { reader: self.file.get_row_group(number)?, columns: &self.columns })))
    }
}

/// A row group: its columns can be read in any order. Where a column is asked for by name and two
/// have it, the first is meant.
///
/// All errors: a column that is missing or has another type, pages that are damaged or do not hold
/// as many rows as the row group.
pub struct Group<'a> {
    pub(super) reader: Box<dyn RowGroupReader + 'a>,
    columns: &'a [Column],
}

impl Group<'_> {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        usize::try_from(self.reader.metadata().num_rows()).unwrap_or(0)
    }

    /// A column of UTF-8.
    pub fn texts(&self, name: &str) -> Result<Vec<Option<String>>> {
        match self.find(name)? {
            (column @ Column { node: Some(Node::Value { .. }), .. }, _, Meaning::Text) => self.cells_of(column, false),
            (column, ..) => Err(wrong(column)),
        }
    }

    /// A column of uint32.
    pub fn numbers(&self, name: &str) -> Result<Vec<Option<u32>>> {
        match self.find(name)? {
            (column, Physical::INT32, Meaning::Unsigned) => self.flat::<Int32Type, _>(column, |&value| value as u32),
            (column, ..) => Err(wrong(column)),
        }
    }

    /// A column of float64.
    pub fn doubles(&self, name: &str) -> Result<Vec<Option<f64>>> {
        match self.find(name)? {
            (column, Physical::DOUBLE, _) => self.flat::<DoubleType, _>(column, |&value| value),
            (column, ..) => Err(wrong(column)),
        }
    }

    /// A column of lists of uint32; empty elements are 0.
    pub fn number_lists(&self, name: &str) -> Result<Vec<Option<Vec<u32>>>> {
        match self.find(name)? {
            (column, Physical::INT32, Meaning::Unsigned) => {
                self.lists::<Int32Type, _>(column, 0, |&value| value as u32)
            }
            (column, ..) => Err(wrong(column)),
        }
    }

    /// A column of lists of numbers: integers, float16, float32 or float64. Empty elements are NaN.
    pub fn vectors(&self, name: &str) -> Result<Vec<Option<Vec<f32>>>> {
        use Meaning::{Half, Plain, Unsigned};
        const GAP: f32 = f32::NAN;
        let (column, physical, meaning) = self.find(name)?;
        match (physical, meaning) {
            (Physical::FLOAT, _) => self.lists::<FloatType, _>(column, GAP, |&value| value),
            (Physical::DOUBLE, _) => self.lists::<DoubleType, _>(column, GAP, |&value| value as f32),
            (Physical::INT32, Plain) => self.lists::<Int32Type, _>(column, GAP, |&value| value as f32),
            (Physical::INT32, Unsigned) => self.lists::<Int32Type, _>(column, GAP, |&value| value as u32 as f32),
            (Physical::INT64, Plain) => self.lists::<Int64Type, _>(column, GAP, |&value| value as f32),
            (Physical::INT64, Unsigned) => self.lists::<Int64Type, _>(column, GAP, |&value| value as u64 as f32),
            (_, Half) => self.lists::<FixedLenByteArrayType, _>(column, GAP, |value| cells::half(value.data())),
            _ => Err(wrong(column)),
        }
    }

    /// A column of any type as text: numbers in as few digits as name them, `true`, `2020-03-31`,
    /// `2020-03-31T12:30:00` (with `Z` where the time is UTC), bytes in hexadecimal, `[a, b]`,
    /// `{field: value}`. Whole numbers have no point, in columns of floating-point numbers too:
    /// data frames turn columns of integers with gaps, ids among them, into such.
    ///
    /// * `column`: its place among [`Reader::names`].
    pub fn cells(&self, column: usize) -> Result<Vec<Option<String>>> {
        self.cells_of(self.columns.get(column).ok_or_else(|| Error::Missing(column.to_string()))?, false)
    }

    /// As [`Group::cells`], by name, of a column that is not nested; bytes are taken for UTF-8.
    pub fn keys(&self, name: &str) -> Result<Vec<Option<String>>> {
        let column = self.column(name)?;
        match column.node {
            Some(Node::Value { .. }) => self.cells_of(column, true),
            _ => Err(wrong(column)),
        }
    }

    fn cells_of(&self, column: &Column, bytes_are_text: bool) -> Result<Vec<Option<String>>> {
        guarded(|| cells::read(self, column, bytes_are_text))
    }

    fn column(&self, name: &str) -> Result<&Column> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| Error::Missing(name.into()))
    }

    /// What describes a leaf, counted in the table.
    pub(super) fn leaf(&self, leaf: usize) -> ColumnDescPtr {
        self.reader.metadata().schema_descr().column(leaf)
    }

    /// A column, and what its first leaf holds.
    fn find(&self, name: &str) -> Result<(&Column, Physical, Meaning)> {
        let column = self.column(name)?;
        let leaf = column.leaves.clone().next().ok_or_else(|| wrong(column))?;
        let leaf = self.leaf(leaf);
        Ok((column, leaf.physical_type(), Meaning::from_leaf(leaf.self_type())))
    }

    fn flat<T: DataType, V>(&self, column: &Column, convert: impl Fn(&T::T) -> V) -> Result<Vec<Option<V>>> {
        let Some(Node::Value { full, .. }) = column.node else { return Err(wrong(column)) };
        let mut rows = Vec::new();
        guarded(|| {
            self.pieces::<T>(column.leaves.start, |values, definitions, _| {
                let mut values = values.iter().map(&convert);
                rows.extend(definitions.iter().map(|&level| if level == full { values.next() } else { None }));
                Ok(())
            })
        })?;
        Ok(rows)
    }

    fn lists<T: DataType, V: Copy>(
        &self,
        column: &Column,
        gap: V,
        convert: impl Fn(&T::T) -> V,
    ) -> Result<Vec<Option<Vec<V>>>> {
        let Some(Node::List { present, items, item, .. }) = &column.node else { return Err(wrong(column)) };
        let Node::Value { full, .. } = **item else { return Err(wrong(column)) };
        let mut rows: Vec<Option<Vec<V>>> = Vec::new();
        guarded(|| {
            self.pieces::<T>(column.leaves.start, |values, definitions, repetitions| {
                let mut values = values.iter().map(&convert);
                for (&level, &repetition) in definitions.iter().zip(repetitions) {
                    if repetition == 0 {
                        // Vectors have one length.
                        let length = rows.last().and_then(Option::as_ref).map_or(0, Vec::len).min(RESERVED);
                        let length = if level < *items { 0 } else { length };
                        rows.push((level >= *present).then(|| Vec::with_capacity(length)));
                    }
                    if level >= *items {
                        let value = if level == full { values.next() } else { Some(gap) };
                        let (Some(Some(row)), Some(value)) = (rows.last_mut(), value) else { return Err(UNEVEN) };
                        row.push(value);
                    }
                }
                Ok(())
            })
        })?;
        if rows.len() == self.rows() { Ok(rows) } else { Err(UNEVEN) }
    }

    /// Reads a leaf, some rows at a time: `each` gets the values that exist, and all definition and
    /// repetition levels (none of the latter where no field is repeated).
    pub(super) fn pieces<T: DataType>(
        &self,
        leaf: usize,
        mut each: impl FnMut(&[T::T], &[i16], &[i16]) -> Result<()>,
    ) -> Result<()> {
        let descriptor = self.leaf(leaf);
        let pages = Checked { pages: self.reader.get_column_page_reader(leaf)?, leaf: descriptor.clone() };
        let mut reader = ColumnReaderImpl::<T>::new(descriptor.clone(), Box::new(pages));
        let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = 0;
        loop {
            values.clear();
            definitions.clear();
            repetitions.clear();
            let (read, _, levels) =
                reader.read_records(PIECE, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
            rows += read;
            if rows > self.rows() || read == 0 && levels == 0 {
                break;
            }
            if descriptor.max_def_level() == 0 {
                definitions.resize(values.len(), 0);
            }
            each(&values, &definitions, &repetitions)?;
        }
        if rows == self.rows() { Ok(()) } else { Err(UNEVEN) }
    }
}

pub(super) const UNEVEN: Error = Error::Damaged("a column does not hold as many rows as the table");

fn wrong(column: &Column) -> Error {
    Error::Type { column: column.name.clone(), found: column.kind.clone() }
}
