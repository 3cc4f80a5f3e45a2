//! `tests/fixtures/parquet` has tables of pyarrow (`make.py`), and in `earlier` those that versions
//! of medst wrote through `arrow`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::collection::vec;
use proptest::option::of as optional;
use proptest::prelude::*;

use super::*;
use crate::corpus::tables;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet").join(name)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(bytes: &[u8]) -> Result<Reader> {
    Reader::new(file(bytes))
}

/// All cells: for each column its name and, over all row groups, its cells.
fn cells(reader: &Reader) -> Result<Vec<(String, Vec<Option<String>>)>> {
    let mut all: Vec<_> = reader.names().map(|name| (name.to_string(), Vec::new())).collect();
    for group in reader.groups() {
        let group = group?;
        for (index, (_, cells)) in all.iter_mut().enumerate() {
            cells.extend(group.cells(index)?);
        }
    }
    Ok(all)
}

fn column<T>(reader: &Reader, read: impl Fn(&Group<'_>) -> Result<Vec<T>>) -> Vec<T> {
    reader.groups().flat_map(|group| read(&group.unwrap()).unwrap()).collect()
}

const NAMES: [&str; 10] =
    ["text", "text?", "number", "number?", "double", "double?", "numbers", "numbers?", "vector", "vector?"];

type Row = ((Option<String>, Option<u32>, Option<f64>), (Option<Vec<u32>>, Option<Vec<f32>>));

fn row() -> impl Strategy<Value = Row> {
    let number = prop_oneof![Just(0), Just(u32::MAX), any::<u32>(), 0..3u32];
    let values = (optional("\\PC{0,9}|a|ß"), optional(number.clone()), optional(-1e300..1e300));
    (values, (optional(vec(number, 0..9)), optional(vec(-1f32..1.0, 0..9))))
}

/// Writes each column of the table twice: as given, and without empty cells.
fn write(groups: &[Vec<Row>], packed: bool) -> Vec<u8> {
    let types = [ColumnType::Text, ColumnType::Number, ColumnType::Double, ColumnType::Numbers, ColumnType::Vector];
    let field = |(index, name): (usize, &&'static str)| match name.ends_with('?') {
        true => Field::optional(name, types[index / 2]),
        false => Field::required(name, types[index / 2]),
    };
    let fields: Vec<Field<'_>> = NAMES.iter().enumerate().map(field).collect();
    let mut writer = Writer::new(Vec::new(), &fields, packed).unwrap();
    for rows in groups {
        let rows = rows.iter();
        writer
            .write(&[
                Cells::Text(rows.clone().map(|row| Some(row.0.0.as_deref().unwrap_or_default())).collect()),
                Cells::Text(rows.clone().map(|row| row.0.0.as_deref()).collect()),
                Cells::Number(rows.clone().map(|row| Some(row.0.1.unwrap_or_default())).collect()),
                Cells::Number(rows.clone().map(|row| row.0.1).collect()),
                Cells::Double(rows.clone().map(|row| Some(row.0.2.unwrap_or_default())).collect()),
                Cells::Double(rows.clone().map(|row| row.0.2).collect()),
                Cells::Numbers(rows.clone().map(|row| Some(row.1.0.as_deref().unwrap_or_default())).collect()),
                Cells::Numbers(rows.clone().map(|row| row.1.0.as_deref()).collect()),
                Cells::Vector(rows.clone().map(|row| Some(row.1.1.as_deref().unwrap_or_default())).collect()),
                Cells::Vector(rows.map(|row| row.1.1.as_deref()).collect()),
            ])
            .unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(groups in vec(vec(row(), 0..40), 0..4), packed: bool) {
        let bytes = write(&groups, packed);
        prop_assert!(bytes == write(&groups, packed));
        let reader = open(&bytes).unwrap();
        prop_assert!(reader.names().eq(NAMES));
        for (group, rows) in reader.groups().zip(&groups) {
            let group = group.unwrap();
            prop_assert_eq!(group.rows(), rows.len());
            for (name, exists) in [("text", true), ("text?", false)] {
                let expected = rows.iter().map(|row| row.0.0.clone().or(exists.then(String::new)));
                prop_assert!(group.texts(name).unwrap().into_iter().eq(expected));
                let name = name.replace("text", "number");
                let expected = rows.iter().map(|row| row.0.1.or(exists.then_some(0)));
                prop_assert!(group.numbers(&name).unwrap().into_iter().eq(expected.clone()));
                let expected = expected.map(|cell| cell.map(|number| number.to_string()));
                prop_assert!(group.keys(&name).unwrap().into_iter().eq(expected));
                let name = name.replace("number", "double");
                let expected = rows.iter().map(|row| row.0.2.or(exists.then_some(0.0)));
                prop_assert!(group.doubles(&name).unwrap().into_iter().eq(expected));
                let name = name.replace("double", "numbers");
                let expected = rows.iter().map(|row| row.1.0.clone().or(exists.then(Vec::new)));
                prop_assert!(group.number_lists(&name).unwrap().into_iter().eq(expected));
                let name = name.replace("numbers", "vector");
                let expected = rows.iter().map(|row| row.1.1.clone().or(exists.then(Vec::new)));
                prop_assert!(group.vectors(&name).unwrap().into_iter().eq(expected));
            }
        }
        prop_assert_eq!(reader.groups().count(), groups.len());
    }

    #[test]
    fn damaged_tables_are_read_or_refused(
        which in 0..5usize,
        flips in vec((any::<prop::sample::Index>(), 0..8u32), 0..4),
        cut in optional(any::<prop::sample::Index>()),
    ) {
        let name = ["v1", "v2", "int96", "earlier/studies", "earlier/embeddings"][which];
        let mut bytes = std::fs::read(fixture(&format!("{name}.parquet"))).unwrap();
        for (offset, bit) in flips {
            let offset = offset.index(bytes.len());
            bytes[offset] ^= 1 << bit;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        if let Ok(reader) = open(&bytes) {
            let _ = cells(&reader);
            for group in reader.groups().flatten() {
                for name in reader.names() {
                    let _ = (group.texts(name), group.numbers(name), group.doubles(name));
                    let _ = (group.number_lists(name), group.vectors(name));
                }
            }
        }
    }
}

#[test]
fn rows_of_many_pages_are_read() {
    let vectors: Vec<Vec<f32>> = (0..3_000).map(|row| (0..row % 300).map(|n| (row * n) as f32).collect()).collect();
    let texts: Vec<String> = (0..3_000).map(|row| "x".repeat(row)).collect();
    let fields = [Field::optional("text", ColumnType::Text), Field::optional("vector", ColumnType::Vector)];
    let mut writer = Writer::new(Vec::new(), &fields, false).unwrap();
    let some = |row: usize| !row.is_multiple_of(7);
    let texts_of = texts.iter().enumerate().map(|(row, text)| some(row).then_some(text.as_str()));
    let vectors_of = vectors.iter().enumerate().map(|(row, vector)| some(row).then_some(vector.as_slice()));
    writer.write(&[Cells::Text(texts_of.clone().collect()), Cells::Vector(vectors_of.clone().collect())]).unwrap();
    let reader = open(&writer.finish().unwrap()).unwrap();
    assert!(column(&reader, |group| group.texts("text")).iter().map(Option::as_deref).eq(texts_of));
    assert!(column(&reader, |group| group.vectors("vector")).iter().map(Option::as_deref).eq(vectors_of));
}

#[test]
fn cells_that_do_not_fit_are_refused() {
    let mut writer = Writer::new(Vec::new(), &[Field::required("a", ColumnType::Text)], true).unwrap();
    for cells in [&[][..], &[Cells::Number(vec![Some(1)])], &[Cells::Text(vec![Some("x"), None])]] {
        assert!(writer.write(cells).is_err(), "{cells:?}");
    }
}

/// What `arrow` made of these tables, except for times with a zone, which it refused.
const EXPECTED: [(&str, [&str; 3]); 33] = [
    ("subject_id", ["10000032", "7", "12345678901"]),
    ("view", ["PA", "AP", "PA"]),
    ("image", ["a.png", "b.png", "c.png"]),
    ("study_id", ["50414267", "-", "-3"]),
    ("report", ["No effusion.", "-", "Größer"]),
    ("int8", ["-128", "-", "127"]),
    ("int16", ["-32768", "-", "1"]),
    ("int32", ["-2147483648", "-", "0"]),
    ("uint8", ["255", "-", "0"]),
    ("uint16", ["65535", "-", "1"]),
    ("uint32", ["4294967295", "-", "2"]),
    ("uint64", ["18446744073709551615", "-", "3"]),
    ("float16", ["0.5", "-", "-2"]),
    ("float32", ["0.1", "-", "3"]),
    ("float64", ["1e-7", "-", "2.5e17"]),
    ("bool", ["true", "-", "false"]),
    ("binary", ["00ff41", "-", ""]),
    ("fixed", ["616263", "-", "010203"]),
    ("date", ["2020-03-31", "-", "1931-01-02"]),
    ("time_ms", ["12:30:00.250", "-", "07:00:00"]),
    ("time_us", ["12:30:00.250", "-", "07:00:00"]),
    ("timestamp_ms", ["2020-03-31T12:30:00.250", "-", "1999-12-31T23:59:59.001"]),
    ("timestamp_us", ["2020-03-31T12:30:00", "-", "1999-12-31T23:59:59.000001"]),
    ("timestamp_ns", ["2020-03-31T12:30:00.250", "-", "1999-12-31T23:59:59.001"]),
    ("timestamp_utc", ["2020-03-31T12:30:00.250Z", "-", "1999-12-31T23:59:59.001Z"]),
    ("decimal", ["-0.005", "-", "123456789.125"]),
    ("texts", ["[edema, atelectasis]", "-", "[]"]),
    ("numbers", ["[1, -2, 3]", "-", "[]"]),
    ("lists", ["[[1, 2], [], , [3]]", "-", "[]"]),
    ("struct", ["{a: 1, b: [x]}", "-", "{a: , b: }"]),
    ("map", ["{k: 1, l: }", "-", "{}"]),
    ("fixed_list", ["[0.5, 1.0]", "-", "[-1.5, 2.0]"]),
    ("halves", ["[0.5, ]", "-", "[65504]"]),
];

#[test]
fn tables_of_other_programs_have_the_text_they_had() {
    for name in ["v1.parquet", "v2.parquet"] {
        let reader = Reader::new(File::open(fixture(name)).unwrap()).unwrap();
        assert_eq!(reader.groups().count(), 2);
        let all = cells(&reader).unwrap();
        for ((column, cells), (expected_column, expected)) in all.iter().zip(EXPECTED) {
            let cells = cells.iter().map(|cell| cell.as_deref().unwrap_or("-"));
            assert!(
                column == expected_column && cells.clone().eq(expected),
                "{name}, {column}: {:?}",
                cells.collect::<Vec<_>>()
            );
        }
        let vectors = |name| column(&reader, |group| group.vectors(name));
        assert_eq!(vectors("fixed_list"), [Some(vec![0.5, 1.0]), None, Some(vec![-1.5, 2.0])]);
        assert_eq!(vectors("numbers"), [Some(vec![1.0, -2.0, 3.0]), None, Some(vec![])]);
        assert_eq!(vectors("doubles"), [Some(vec![0.1, -1.0]), None, Some(vec![])]);
        assert_eq!(vectors("unsigned"), [Some(vec![4294967296.0, 1.0]), None, Some(vec![0.0])]);
        let halves = vectors("halves");
        assert!(halves[0].as_ref().unwrap()[0] == 0.5 && halves[0].as_ref().unwrap()[1].is_nan());
        assert_eq!(halves[1..], [None, Some(vec![65504.0])]);
        let lists = column(&reader, |group| group.number_lists("unsigned"));
        assert_eq!(lists, [Some(vec![u32::MAX, 1]), None, Some(vec![0])]);
    }
    let reader = Reader::new(File::open(fixture("int96.parquet")).unwrap()).unwrap();
    let moments = column(&reader, |group| group.keys("ns"));
    let moments: Vec<_> = moments.iter().map(|cell| cell.as_deref().unwrap_or("-")).collect();
    assert_eq!(moments, ["2020-03-31T12:30:00.250", "-", "1999-12-31T23:59:59.001"]);
}

#[test]
fn a_table_that_lacks_a_column_or_has_another_type_is_refused() {
    let reader = Reader::new(File::open(fixture("v1.parquet")).unwrap()).unwrap();
    let group = reader.groups().next().unwrap().unwrap();
    for (error, expected) in [
        (group.texts("nothing").unwrap_err(), "column `nothing` is missing"),
        (group.texts("int8").unwrap_err(), "column `int8` has the type INT32 (INT_8)"),
        (group.texts("texts").unwrap_err(), "column `texts` has the type list of BYTE_ARRAY (UTF8)"),
        (group.texts("binary").unwrap_err(), "column `binary` has the type BYTE_ARRAY"),
        (group.numbers("int32").unwrap_err(), "column `int32` has the type INT32"),
        (group.numbers("unsigned").unwrap_err(), "column `unsigned` has the type list of INT32 (UINT_32)"),
        (group.doubles("float32").unwrap_err(), "column `float32` has the type FLOAT"),
        (group.number_lists("numbers").unwrap_err(), "column `numbers` has the type list of INT64"),
        (group.vectors("float32").unwrap_err(), "column `float32` has the type FLOAT"),
        (group.vectors("texts").unwrap_err(), "column `texts` has the type list of BYTE_ARRAY (UTF8)"),
        (group.vectors("lists").unwrap_err(), "column `lists` has the type list of list of INT32"),
        (group.vectors("date").unwrap_err(), "column `date` has the type INT32 (DATE)"),
        (group.keys("struct").unwrap_err(), "column `struct` has the type group"),
    ] {
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn tables_that_were_written_through_arrow_are_read() {
    let studies = tables::read_studies(&fixture("earlier/studies.parquet")).unwrap();
    let sequences = tables::read_sequences(&fixture("earlier/sequences.parquet")).unwrap();
    assert_eq!(studies.len(), 7);
    assert_eq!(studies[1].subject.0, "p00000");
    assert!(sequences.iter().flat_map(|sequence| &sequence.studies).eq(&[0, 1, 2, 3, 4, 5, 6]));
    // What is written now is read as the same.
    let folder = tempfile::tempdir().unwrap();
    let (studies_now, sequences_now) = (folder.path().join("studies"), folder.path().join("sequences"));
    tables::write_studies(&studies_now, &studies).unwrap();
    tables::write_sequences(&sequences_now, &sequences).unwrap();
    assert_eq!(tables::read_studies(&studies_now).unwrap(), studies);
    assert_eq!(tables::read_sequences(&sequences_now).unwrap(), sequences);
    for (now, earlier) in [(studies_now, "studies"), (sequences_now, "sequences")] {
        let all = |path: &Path| cells(&Reader::new(File::open(path).unwrap()).unwrap()).unwrap();
        assert_eq!(all(&now), all(&fixture(&format!("earlier/{earlier}.parquet"))));
    }
    let reader = Reader::new(File::open(fixture("earlier/embeddings.parquet")).unwrap()).unwrap();
    let ids = column(&reader, |group| group.keys("study_id"));
    assert!(ids.iter().map(Option::as_deref).eq(["p00000-v1", "p00000-v2", "p00000-v3"].map(Some)));
    for (name, missing) in [("image_embedding", [false; 3]), ("report_embedding", [false, true, false])] {
        let vectors = column(&reader, |group| group.vectors(name));
        assert!(vectors.iter().map(Option::is_none).eq(missing));
        for vector in vectors.iter().flatten() {
            let length: f32 = vector.iter().map(|value| value * value).sum();
            assert!(vector.len() == 128 && (length - 1.0).abs() < 1e-5);
        }
    }
}

/// A table of one row group, whose leaves are written by `leaves`.
fn table(
    schema: &str,
    codec: Compression,
    leaves: impl Fn(usize, &mut parquet::file::writer::SerializedColumnWriter<'_>),
) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut number = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        leaves(number, &mut column);
        column.close().unwrap();
        number += 1;
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn lists_of_old_writers_are_read() {
    let schema = "message m {
        optional group two (LIST) { repeated int32 element; }
        repeated int32 bare;
        optional group avro (LIST) { repeated group array { required int32 x; } }
        required group required (LIST) { repeated group bag { required int32 x; } }
    }";
    let bytes = table(schema, Compression::SNAPPY, |leaf, column| {
        let column = column.typed::<Int32Type>();
        // [1, 2], [], [3]; the first and third list may be absent, and are so at the end.
        let (definitions, last) = if leaf == 0 || leaf == 2 { ([2, 2, 1, 2], 0) } else { ([1, 1, 0, 1], 0) };
        let definitions = [&definitions[..], &[last]].concat();
        column.write_batch(&[1, 2, 3], Some(&definitions), Some(&[0, 1, 0, 0, 0])).unwrap();
    });
    let reader = open(&bytes).unwrap();
    let all: Vec<_> = cells(&reader).unwrap().into_iter().map(|(_, cells)| cells).collect();
    let some = |texts: [&str; 4]| texts.map(|text| (text != "-").then(|| text.to_string()));
    assert_eq!(all[0], some(["[1, 2]", "[]", "[3]", "-"]));
    assert_eq!(all[1], some(["[1, 2]", "[]", "[3]", "[]"]));
    assert_eq!(all[2], some(["[{x: 1}, {x: 2}]", "[]", "[{x: 3}]", "-"]));
    assert_eq!(all[3], some(["[1, 2]", "[]", "[3]", "[]"]));
    let vectors = |name| column(&reader, |group| group.vectors(name));
    assert_eq!(vectors("two"), [Some(vec![1.0, 2.0]), Some(vec![]), Some(vec![3.0]), None]);
    for name in ["bare", "required"] {
        assert_eq!(vectors(name), [Some(vec![1.0, 2.0]), Some(vec![]), Some(vec![3.0]), Some(vec![])]);
    }
}

#[test]
fn odd_values_have_a_text() {
    let schema = "message m {
        required int32 day (DATE);
        required binary enum (ENUM);
        required binary number (DECIMAL(40, 2));
        required fixed_len_byte_array(2) half (FLOAT16);
        required binary bytes;
    }";
    let bytes = table(schema, Compression::UNCOMPRESSED, |leaf, column| match leaf {
        0 => drop(column.typed::<Int32Type>().write_batch(&[i32::MAX, -719_528], None, None).unwrap()),
        1 | 4 => drop(column.typed::<ByteArrayType>().write_batch(&["a".into(), "b".into()], None, None).unwrap()),
        2 => {
            let values = [ByteArray::from(vec![255]), ByteArray::from(vec![1; 20])];
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        }
        _ => {
            let values = [[0x01, 0x00], [0x00, 0xfc]].map(|bytes| FixedLenByteArray::from(bytes.to_vec()));
            column.typed::<FixedLenByteArrayType>().write_batch(&values, None, None).unwrap();
        }
    });
    let reader = open(&bytes).unwrap();
    let all = cells(&reader).unwrap();
    let all: Vec<Vec<_>> = all.iter().map(|(_, cells)| cells.iter().flatten().map(String::as_str).collect()).collect();
    let hexadecimal = "01".repeat(20);
    assert_eq!(all[0], ["2147483647", "0000-01-01"]);
    assert_eq!(all[1], ["a", "b"]);
    assert_eq!(all[2], ["-0.01", &hexadecimal]);
    assert_eq!(all[3], ["0.000000059604645", "-inf"]);
    assert_eq!(all[4], ["61", "62"]);
    assert_eq!(column(&reader, |group| group.keys("bytes")), [Some("a".into()), Some("b".into())]);
}

#[test]
fn a_group_without_fields_has_no_cells() {
    let bytes = table("message m { required int32 a; optional group b {} }", Compression::UNCOMPRESSED, |_, column| {
        column.typed::<Int32Type>().write_batch(&[7], None, None).unwrap();
    });
    let reader = open(&bytes).unwrap();
    assert_eq!(cells(&reader).unwrap(), [("a".into(), vec![Some("7".into())]), ("b".into(), vec![None])]);
    let group = reader.groups().next().unwrap().unwrap();
    assert!(group.numbers("b").is_err() && group.vectors("b").is_err() && group.keys("b").is_err());
}

#[test]
fn footers_that_promise_too_much_are_refused() {
    let whole = write(&[vec![((Some("x".into()), None, None), (None, None)); 3]], false);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file(&whole)).unwrap();
    for (rows, expected) in [
        (1 << 40, "more rows than it can hold"),
        (i64::MAX, "more rows than it can hold"),
        (-1, "more rows than it can hold"),
        (4, "as many rows"),
        (2, "as many rows"),
    ] {
        let mut builder = metadata.clone().into_builder();
        for group in builder.take_row_groups() {
            builder = builder.add_row_group(group.into_builder().set_num_rows(rows).build().unwrap());
        }
        let mut bytes = whole.clone();
        let length = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
        bytes.truncate(bytes.len() - 8 - length);
        ParquetMetaDataWriter::new(&mut bytes, &builder.build()).finish().unwrap();
        let error = open(&bytes).and_then(|reader| cells(&reader)).unwrap_err().to_string();
        assert!(error.contains(expected), "{rows}: {error}");
    }
}
