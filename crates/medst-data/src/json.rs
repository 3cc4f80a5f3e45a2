//! The JSON of values of this program, and JSON of others, whose objects must name each field once.
//!
//! Serialisation fails only for values that have no JSON, such as a map whose keys are not text.
//! This program has no such value; with one, an empty text would be written to a file, or hashed,
//! as if it were the value.

use std::fmt;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The JSON of a value, on one line.
///
/// # Panics
/// A value that has no JSON, which is a mistake of the program.
pub fn text<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| no_json::<T>(&error))
}

/// Like [`text`], with line breaks and indentation for readers.
///
/// # Panics
/// As [`text`].
pub fn indented<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| no_json::<T>(&error))
}

/// A value in which no object names a field twice: of two fields with one name, readers of JSON
/// keep one and silently drop the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Unique(pub Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Unique, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_string<E>(self, value: String) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Unique, A::Error> {
                let mut all = Vec::new();
                while let Some(Unique(value)) = values.next_element()? {
                    all.push(value);
                }
                Ok(Unique(Value::Array(all)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Unique, A::Error> {
                let mut all = Map::new();
                while let Some((name, Unique(value))) = fields.next_entry::<String, Unique>()? {
                    if all.contains_key(&name) {
                        return Err(de::Error::custom(format!("two fields are called `{name}`")));
                    }
                    all.insert(name, value);
                }
                Ok(Unique(Value::Object(all)))
            }
        }
        source.deserialize_any(Any)
    }
}

fn no_json<T: ?Sized>(error: &serde_json::Error) -> ! {
    panic!("a value of type {} has no JSON: {error}", std::any::type_name::<T>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::catch_unwind;

    #[test]
    fn a_field_is_named_once() {
        let read = serde_json::from_str::<super::Unique>;
        let text = r#"{"a":[1,-2,0.5,null,true],"b":{"a":"x"}}"#;
        assert_eq!(read(text).unwrap().0, serde_json::from_str::<serde_json::Value>(text).unwrap());
        let error = read("{\"a\":1,\n\"b\":[{\"c\":2,\"c\":3}]}").unwrap_err();
        assert!(error.to_string().contains("two fields are called `c`") && error.line() == 2, "{error}");
    }

    #[test]
    fn what_has_no_json_is_never_an_empty_text() {
        assert_eq!(super::text(&BTreeMap::from([("a", 1)])), r#"{"a":1}"#);
        assert_eq!(super::indented(&[1]), "[\n  1\n]");
        let none = BTreeMap::from([((1, 2), 3)]);
        assert!(catch_unwind(|| super::text(&none)).is_err());
        assert!(catch_unwind(|| super::indented(&none)).is_err());
    }
}
