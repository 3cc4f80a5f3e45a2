//! Columns of any type as text.

use chrono::{DateTime, NaiveDateTime};
use parquet::basic::Type as Physical;
use parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96,
    Int96Type,
};

use super::read::{Group, UNEVEN};
use super::schema::{Column, Meaning, Node};
use super::{Error, Result};

/// A leaf of a row group, from its front.
#[derive(Default)]
struct Leaf {
    texts: std::vec::IntoIter<String>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    at: usize,
}

impl Leaf {
    /// The definition level of what comes next.
    fn level(&self) -> i16 {
        self.definitions.get(self.at).copied().unwrap_or(0)
    }

    /// Whether what comes next goes on with a list.
    fn goes_on(&self, depth: i16) -> bool {
        self.repetitions.get(self.at) == Some(&depth)
    }
}

/// Reads a column.
pub fn read(group: &Group<'_>, column: &Column, bytes_are_text: bool) -> Result<Vec<Option<String>>> {
    let Some(node) = &column.node else { return Ok(vec![None; group.rows()]) };
    let leaf = |leaf| texts(group, leaf, bytes_are_text);
    let mut leaves = column.leaves.clone().map(leaf).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    while leaves[0].at < leaves[0].definitions.len() {
        rows.push(node.take(&mut leaves));
    }
    if rows.len() != group.rows() || leaves.iter().any(|leaf| leaf.at != leaf.definitions.len()) {
        return Err(UNEVEN);
    }
    let physical = group.leaf(column.leaves.start).physical_type();
    if matches!((node, physical), (Node::Value { .. }, Physical::FLOAT | Physical::DOUBLE)) {
        for cell in rows.iter_mut().flatten().filter(|cell| cell.ends_with(".0")) {
            cell.truncate(cell.len() - 2);
        }
    }
    Ok(rows)
}

impl Node {
    /// Takes the text of a row or element from the front of its leaves; what does not exist takes
    /// one place in each of them.
    fn take(&self, leaves: &mut [Leaf]) -> Option<String> {
        match self {
            Node::Value { leaf, full } => {
                let leaf = &mut leaves[*leaf];
                let exists = leaf.level() == *full;
                leaf.at += 1;
                if exists { leaf.texts.next() } else { None }
            }
            Node::Struct { leaf, present, fields } => {
                let exists = leaves[*leaf].level() >= *present;
                let mut field = |(name, node): &(String, Node)| format!("{name}: {}", node.text(leaves));
                let fields: Vec<String> = fields.iter().map(&mut field).collect();
                exists.then(|| format!("{{{}}}", fields.join(", ")))
            }
            Node::List { leaf, present, items, depth, map, item } => {
                let level = leaves[*leaf].level();
                let mut elements = vec![item.text(leaves)];
                while leaves[*leaf].goes_on(*depth) {
                    elements.push(item.text(leaves));
                }
                if level < *items {
                    elements.clear();
                }
                let elements = elements.join(", ");
                (level >= *present).then(|| if *map { format!("{{{elements}}}") } else { format!("[{elements}]") })
            }
            Node::Entry(entry) => {
                let [key, value] = &**entry;
                let key = key.text(leaves);
                Some(format!("{key}: {}", value.text(leaves)))
            }
        }
    }

    fn text(&self, leaves: &mut [Leaf]) -> String {
        self.take(leaves).unwrap_or_default()
    }
}

/// Reads a leaf.
fn texts(group: &Group<'_>, leaf: usize, bytes_are_text: bool) -> Result<Leaf> {
    let descriptor = group.leaf(leaf);
    let meaning = match Meaning::from_leaf(descriptor.self_type()) {
        Meaning::Plain if bytes_are_text => Meaning::Text,
        meaning => meaning,
    };
    let unsigned = meaning == Meaning::Unsigned;
    match descriptor.physical_type() {
        Physical::BOOLEAN => collect::<BoolType>(group, leaf, |value| Ok(value.to_string())),
        Physical::INT32 if unsigned => collect::<Int32Type>(group, leaf, |&value| Ok((value as u32).to_string())),
        Physical::INT64 if unsigned => collect::<Int64Type>(group, leaf, |&value| Ok((value as u64).to_string())),
        Physical::INT32 => collect::<Int32Type>(group, leaf, |&value| Ok(integer(value.into(), meaning))),
        Physical::INT64 => collect::<Int64Type>(group, leaf, |&value| Ok(integer(value, meaning))),
        Physical::INT96 => collect::<Int96Type>(group, leaf, |value| Ok(old_timestamp(value))),
        Physical::FLOAT => collect::<FloatType>(group, leaf, |value| Ok(format!("{value:?}"))),
        Physical::DOUBLE => collect::<DoubleType>(group, leaf, |value| Ok(format!("{value:?}"))),
        Physical::BYTE_ARRAY => collect::<ByteArrayType>(group, leaf, |value| bytes(value.data(), meaning)),
        Physical::FIXED_LEN_BYTE_ARRAY => {
            collect::<FixedLenByteArrayType>(group, leaf, |value| bytes(value.data(), meaning))
        }
    }
}

fn collect<T: DataType>(group: &Group<'_>, leaf: usize, text: impl Fn(&T::T) -> Result<String>) -> Result<Leaf> {
    let (mut texts, mut all) = (Vec::new(), Leaf::default());
    group.pieces::<T>(leaf, |values, definitions, repetitions| {
        for value in values {
            texts.push(text(value)?);
        }
        all.definitions.extend(definitions);
        all.repetitions.extend(repetitions);
        Ok(())
    })?;
    Ok(Leaf { texts: texts.into_iter(), ..all })
}

/// A date or time that does not exist is given as the number that it is stored as.
fn integer(value: i64, meaning: Meaning) -> String {
    let text = match meaning {
        Meaning::Date => moment(value.saturating_mul(86_400), 1).map(|moment| format!("{:?}", moment.date())),
        Meaning::Time(per_second) => {
            let time = moment(value, per_second).filter(|_| (0..86_400 * per_second).contains(&value));
            time.map(|moment| format!("{:?}", moment.time()))
        }
        Meaning::Timestamp { per_second, utc } => {
            moment(value, per_second).map(|moment| format!("{moment:?}{}", if utc { "Z" } else { "" }))
        }
        Meaning::Decimal(scale) => Some(decimal(value.into(), scale)),
        _ => None,
    };
    text.unwrap_or_else(|| value.to_string())
}

/// The moment so long after 1970 began.
fn moment(value: i64, per_second: i64) -> Option<NaiveDateTime> {
    let nanoseconds = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    Some(DateTime::from_timestamp(value.div_euclid(per_second), nanoseconds as u32)?.naive_utc())
}

/// Nanoseconds of a day, and the day.
fn old_timestamp(value: &Int96) -> String {
    let [low, high, _] = value.data() else { return String::new() };
    let nanoseconds = (u64::from(*high) << 32 | u64::from(*low)) % 1_000_000_000;
    let moment = DateTime::from_timestamp(value.to_seconds(), nanoseconds as u32);
    moment.map_or_else(|| value.to_nanos().to_string(), |moment| format!("{:?}", moment.naive_utc()))
}

fn bytes(bytes: &[u8], meaning: Meaning) -> Result<String> {
    Ok(match meaning {
        Meaning::Text => String::from_utf8(bytes.to_vec()).map_err(|_| Error::Damaged("a text is not UTF-8"))?,
        Meaning::Half => half(bytes).to_string(),
        Meaning::Decimal(scale) => signed(bytes).map_or_else(|| hexadecimal(bytes), |value| decimal(value, scale)),
        _ => hexadecimal(bytes),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number in two's complement, the largest byte first.
fn signed(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first()? & 128 == 0 { 0 } else { -1 };
    bytes.iter().try_fold(sign, |value: i128, &byte| value.checked_mul(256)?.checked_add(byte.into()))
}

/// * `scale`: digits after the point.
fn decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0>1$}", value.unsigned_abs(), scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The value of a float16; NaN where there are not two bytes.
pub fn half(bytes: &[u8]) -> f32 {
    let Ok(bytes) = bytes.try_into() else { return f32::NAN };
    let bits = u16::from_le_bytes(bytes);
    let fraction = f32::from(bits & 0x3ff);
    let magnitude = match i32::from(bits >> 10 & 31) {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}
