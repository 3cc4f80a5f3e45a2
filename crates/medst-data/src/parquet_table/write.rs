//! Writing tables.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type};

use super::Result;

/// Levels that are handed to the encoder at once.
const PIECE: usize = 1 << 14;

/// The type of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8.
    Text,
    /// uint32.
    Number,
    /// float64.
    Double,
    /// Lists of uint32.
    Numbers,
    /// Lists of float32.
    Vector,
}

/// A column of a table that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    name: &'a str,
    column_type: ColumnType,
    optional: bool,
}

impl<'a> Field<'a> {
    /// A column without empty cells. (A list may have no elements.)
    pub const fn required(name: &'a str, column_type: ColumnType) -> Field<'a> {
        Field { name, column_type, optional: false }
    }

    /// A column whose cells may be empty.
    pub const fn optional(name: &'a str, column_type: ColumnType) -> Field<'a> {
        Field { name, column_type, optional: true }
    }

    fn is_list(&self) -> bool {
        matches!(self.column_type, ColumnType::Numbers | ColumnType::Vector)
    }

    /// Lists have the three levels `NAME.list.element` of the format.
    fn schema(&self) -> Result<Type, ParquetError> {
        let repetition = |optional| if optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let (physical, meaning) = match self.column_type {
            ColumnType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            ColumnType::Number | ColumnType::Numbers => (Physical::INT32, Some(LogicalType::integer(32, false))),
            ColumnType::Double => (Physical::DOUBLE, None),
            ColumnType::Vector => (Physical::FLOAT, None),
        };
        let value = |name, optional| {
            let value = Type::primitive_type_builder(name, physical).with_logical_type(meaning.clone());
            value.with_repetition(repetition(optional)).build()
        };
        if !self.is_list() {
            return value(self.name, self.optional);
        }
        let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
        let list = list.with_fields(vec![Arc::new(value("element", true)?)]).build()?;
        let column = Type::group_type_builder(self.name).with_repetition(repetition(self.optional));
        column.with_logical_type(Some(LogicalType::List)).with_fields(vec![Arc::new(list)]).build()
    }
}

/// The cells of a column in a row group; `None` is empty.
#[derive(Clone, Debug)]
pub enum Cells<'a> {
    Text(Vec<Option<&'a str>>),
    Number(Vec<Option<u32>>),
    Double(Vec<Option<f64>>),
    Numbers(Vec<Option<&'a [u32]>>),
    Vector(Vec<Option<&'a [f32]>>),
}

/// Writes a table, one row group after the other. Equal cells make equal bytes.
pub struct Writer<W: Write + Send> {
    fields: Vec<(ColumnType, bool)>,
    file: SerializedFileWriter<W>,
}

impl<W: Write + Send> Writer<W> {
    /// * `packed`: compress with Zstandard.
    ///
    /// # Errors
    /// A sink that takes no bytes.
    pub fn new(sink: W, fields: &[Field<'_>], packed: bool) -> Result<Writer<W>> {
        let columns: Vec<_> = fields.iter().map(|field| field.schema().map(Arc::new)).collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder("schema").with_fields(columns).build()?;
        let mut properties = WriterProperties::builder();
        if packed {
            properties = properties.set_compression(Compression::ZSTD(ZstdLevel::default()));
        }
        // Values of vectors rarely repeat, and their extremes are not queried.
        for field in fields.iter().filter(|field| field.column_type == ColumnType::Vector) {
            let path = ColumnPath::from([field.name, "list", "element"].map(str::to_string).to_vec());
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        }
        Ok(Writer {
            fields: fields.iter().map(|field| (field.column_type, field.optional)).collect(),
            file: SerializedFileWriter::new(sink, Arc::new(schema), Arc::new(properties.build()))?,
        })
    }

    /// Writes a row group: the cells of all columns, in the order of the fields.
    ///
    /// # Errors
    /// Cells of another type or number than those of the other columns, an empty cell in a column
    /// that has none, a sink that takes no more bytes.
    pub fn write(&mut self, columns: &[Cells<'_>]) -> Result<()> {
        let wrong = || ParquetError::General("cells that do not fit the columns".into());
        if columns.len() != self.fields.len() {
            return Err(wrong().into());
        }
        let mut group = self.file.next_row_group()?;
        for (&(column_type, optional), cells) in self.fields.iter().zip(columns) {
            let mut column = group.next_column()?.ok_or_else(wrong)?;
            let to = &mut column;
            match (column_type, cells) {
                (ColumnType::Text, Cells::Text(cells)) => {
                    put::<ByteArrayType, _, _>(to, optional, false, cells, |&cell| [ByteArray::from(cell)])
                }
                (ColumnType::Number, Cells::Number(cells)) => {
                    put::<Int32Type, _, _>(to, optional, false, cells, |&cell| [cell as i32])
                }
                (ColumnType::Double, Cells::Double(cells)) => {
                    put::<DoubleType, _, _>(to, optional, false, cells, |&cell| [cell])
                }
                (ColumnType::Numbers, Cells::Numbers(cells)) => {
                    put::<Int32Type, _, _>(to, optional, true, cells, |cell| cell.iter().map(|&value| value as i32))
                }
                (ColumnType::Vector, Cells::Vector(cells)) => {
                    put::<FloatType, _, _>(to, optional, true, cells, |cell| cell.iter().copied())
                }
                _ => Err(wrong()),
            }?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Writes the end of the table, and returns the sink.
    ///
    /// # Errors
    /// A sink that takes no more bytes.
    pub fn finish(self) -> Result<W> {
        Ok(self.file.into_inner()?)
    }
}

/// Writes cells of some elements each: one, where the column holds no lists.
fn put<'a, T: DataType, C, I: IntoIterator<Item = T::T>>(
    column: &mut SerializedColumnWriter<'_>,
    optional: bool,
    list: bool,
    cells: &'a [Option<C>],
    elements: impl Fn(&'a C) -> I,
) -> Result<(), ParquetError> {
    let column = column.typed::<T>();
    let present = i16::from(optional);
    let full = if list { present + 2 } else { present };
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    for (n, cell) in cells.iter().enumerate() {
        if cell.is_none() && !optional {
            return Err(ParquetError::General("an empty cell in a column that has none".into()));
        }
        let start = definitions.len();
        for value in cell.iter().flat_map(&elements) {
            repetitions.push(i16::from(definitions.len() > start));
            definitions.push(full);
            values.push(value);
        }
        if definitions.len() == start {
            repetitions.push(0);
            definitions.push(if cell.is_some() { present } else { 0 });
        }
        if definitions.len() >= PIECE || n + 1 == cells.len() {
            let definitions_of = (full > 0).then_some(definitions.as_slice());
            column.write_batch(&values, definitions_of, list.then_some(repetitions.as_slice()))?;
            values.clear();
            definitions.clear();
            repetitions.clear();
        }
    }
    Ok(())
}
