//! How the columns of a table are nested, and what the values of their leaves mean.

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::Type;

/// Most digits after the point of a decimal.
const LARGEST_SCALE: i32 = 76;

/// A column of a table.
pub struct Column {
    pub name: String,
    /// Its leaves among those of the table.
    pub leaves: Range<usize>,
    /// Absent where a field has nothing in it.
    pub node: Option<Node>,
    /// The type, for messages.
    pub kind: String,
}

/// A field of a column, with the definition and repetition levels at which its parts exist. Leaves
/// are counted from the first of the column; `leaf` is the first in the field.
pub enum Node {
    /// * `full`: the definition level of a value that exists.
    Value { leaf: usize, full: i16 },
    /// * `present`: the definition level from which the fields exist.
    Struct { leaf: usize, present: i16, fields: Vec<(String, Node)> },
    /// * `present`, `items`: the definition levels from which the list exists, and has elements.
    /// * `depth`: the repetition level of a further element.
    List { leaf: usize, present: i16, items: i16, depth: i16, map: bool, item: Box<Node> },
    /// An entry of a map.
    Entry(Box<[Node; 2]>),
}

/// What the stored values of a leaf mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Plain,
    Unsigned,
    Text,
    /// Days since 1970.
    Date,
    /// Since midnight, so many per second.
    Time(i64),
    /// Since 1970, so many per second.
    Timestamp {
        per_second: i64,
        utc: bool,
    },
    /// Digits after the point.
    Decimal(usize),
    /// float16.
    Half,
}

impl Column {
    /// The columns of a table, by the root of its schema.
    pub fn all(schema: &Type) -> Vec<Column> {
        let mut leaves = 0;
        let columns = schema.get_fields().iter().map(|field| {
            let first = leaves;
            leaves += count_leaves(field);
            let node = is_complete(field).then(|| Node::new(field, [0, 0], &mut 0));
            Column { name: field.name().to_string(), leaves: first..leaves, node, kind: kind(field) }
        });
        columns.collect()
    }
}

fn is_complete(field: &Type) -> bool {
    field.is_primitive() || !field.get_fields().is_empty() && field.get_fields().iter().all(|field| is_complete(field))
}

fn count_leaves(field: &Type) -> usize {
    if field.is_primitive() { 1 } else { field.get_fields().iter().map(|field| count_leaves(field)).sum() }
}

/// The type of a column in a few words.
fn kind(field: &Type) -> String {
    if !field.is_primitive() {
        return match (is_list(field), field.get_fields()) {
            (true, [list]) if list.is_primitive() => format!("list of {}", kind(list)),
            (true, [list]) if list.get_fields().len() == 1 => format!("list of {}", kind(&list.get_fields()[0])),
            _ => "group".into(),
        };
    }
    match field.get_basic_info().converted_type() {
        ConvertedType::NONE => field.get_physical_type().to_string(),
        converted => format!("{} ({converted})", field.get_physical_type()),
    }
}

impl Node {
    /// * `levels`: the definition and repetition level around the field.
    /// * `leaves`: of the column before it.
    fn new(field: &Type, [definition, repetition]: [i16; 2], leaves: &mut usize) -> Node {
        match field.get_basic_info().repetition() {
            Repetition::REQUIRED => Node::content(field, [definition, repetition], leaves),
            Repetition::OPTIONAL => Node::content(field, [definition + 1, repetition], leaves),
            // Without a field around it that is called a list: one that always exists.
            Repetition::REPEATED => {
                let (leaf, depth, items) = (*leaves, repetition + 1, definition + 1);
                let item = Box::new(Node::content(field, [items, depth], leaves));
                Node::List { leaf, present: definition, items, depth, map: false, item }
            }
        }
    }

    /// * `levels`: those at which the field exists.
    fn content(field: &Type, [present, repetition]: [i16; 2], leaves: &mut usize) -> Node {
        let leaf = *leaves;
        if field.is_primitive() {
            *leaves += 1;
            return Node::Value { leaf, full: present };
        }
        let inner = [present + 1, repetition + 1];
        if let [repeated] = field.get_fields()
            && repeated.get_basic_info().repetition() == Repetition::REPEATED
            && (is_list(field) || is_map(field))
        {
            let fields = if repeated.is_primitive() { &[] } else { repeated.get_fields() };
            let map = is_map(field) && fields.len() == 2;
            let item = match fields {
                [key, value] if map => {
                    Node::Entry(Box::new([Node::new(key, inner, leaves), Node::new(value, inner, leaves)]))
                }
                // The format's rules of compatibility: other groups are the element themselves.
                [element] if repeated.name() != "array" && !repeated.name().ends_with("_tuple") => {
                    Node::new(element, inner, leaves)
                }
                _ => Node::content(repeated, inner, leaves),
            };
            let [items, depth] = inner;
            return Node::List { leaf, present, items, depth, map, item: Box::new(item) };
        }
        let fields = field.get_fields().iter();
        let fields = fields.map(|field| (field.name().to_string(), Node::new(field, [present, repetition], leaves)));
        Node::Struct { leaf, present, fields: fields.collect() }
    }
}

fn is_list(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.logical_type_ref() == Some(&LogicalType::List) || info.converted_type() == ConvertedType::LIST
}

fn is_map(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.logical_type_ref() == Some(&LogicalType::Map)
        || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE)
}

impl Meaning {
    /// * `leaf`: primitive.
    pub fn from_leaf(leaf: &Type) -> Meaning {
        let per_second = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => 1_000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        };
        let decimal = |scale| match scale {
            0..=LARGEST_SCALE => Meaning::Decimal(scale as usize),
            _ => Meaning::Plain,
        };
        let info = leaf.get_basic_info();
        if let Some(logical) = info.logical_type_ref() {
            return match logical {
                LogicalType::String | LogicalType::Json | LogicalType::Enum => Meaning::Text,
                LogicalType::Integer(integer) if !integer.is_signed => Meaning::Unsigned,
                LogicalType::Date => Meaning::Date,
                LogicalType::Time(time) => Meaning::Time(per_second(&time.unit)),
                LogicalType::Timestamp(time) => {
                    Meaning::Timestamp { per_second: per_second(&time.unit), utc: time.is_adjusted_to_u_t_c }
                }
                LogicalType::Decimal(number) => decimal(number.scale),
                LogicalType::Float16 if leaf.get_physical_type() == Physical::FIXED_LEN_BYTE_ARRAY => Meaning::Half,
                _ => Meaning::Plain,
            };
        }
        match info.converted_type() {
            ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM => Meaning::Text,
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => {
                Meaning::Unsigned
            }
            ConvertedType::DATE => Meaning::Date,
            ConvertedType::TIME_MILLIS => Meaning::Time(1_000),
            ConvertedType::TIME_MICROS => Meaning::Time(1_000_000),
            ConvertedType::TIMESTAMP_MILLIS => Meaning::Timestamp { per_second: 1_000, utc: true },
            ConvertedType::TIMESTAMP_MICROS => Meaning::Timestamp { per_second: 1_000_000, utc: true },
            ConvertedType::DECIMAL => decimal(leaf.get_scale()),
            _ => Meaning::Plain,
        }
    }
}
