//! The parts of a multipart body as one value.
//!
//! A part's name is the path of its value: `frontal`, `phrase`, `studies.0.lateral`; the part
//! `request` may contain the rest as JSON. How a part is read depends on the value that is expected
//! at its path: for a list or an object, the part is parsed as JSON; for a text, it is taken
//! literally, whatever it begins with, because de-identified reports begin with `[**`.

use std::collections::BTreeMap;

use axum::body::Bytes;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Value;

use crate::{Error, Result};

/// Highest number in a part's name.
const MOST_ITEMS: usize = 64;
/// Items and fields of JSON. Each takes tens of bytes of memory, and may have two in the body.
const MOST_VALUES: usize = 1 << 17;

type Fault = serde_json::Error;

/// A value, possibly incomplete.
#[derive(Debug, PartialEq)]
pub enum UploadPart {
    Absent,
    Text { name: String, text: String },
    File { name: String, bytes: Bytes },
    Json(Value),
    List(Vec<UploadPart>),
    Object(BTreeMap<String, UploadPart>),
}

impl UploadPart {
    /// The whole of a body without any part.
    pub fn nothing() -> UploadPart {
        UploadPart::Object(BTreeMap::new())
    }

    /// Adds the fields of the part `request`, whose lists and objects other parts may add to.
    ///
    /// # Errors
    /// Something other than a JSON object, or a field that already exists.
    pub fn merge(&mut self, json: &[u8]) -> Result<()> {
        let fail = |reason: String| Error::Bad(format!("part \"request\": {reason}"));
        let value: Value = from_json(json).map_err(|error| fail(error.to_string()))?;
        let (UploadPart::Object(fields), Value::Object(more)) = (self, value) else {
            return Err(fail("expected a JSON object".into()));
        };
        for (key, value) in more {
            if fields.contains_key(&key) {
                return Err(Error::Bad(format!("{key:?} is given more than once")));
            }
            fields.insert(key, UploadPart::from(value));
        }
        Ok(())
    }

    /// Puts a part at `a.0.b`.
    ///
    /// # Errors
    /// An invalid name, or a place that is taken.
    pub fn place(&mut self, name: &str, part: UploadPart) -> Result<()> {
        let fail = || Error::Bad(format!("unknown part {name:?}; see /reference"));
        let keys: Vec<&str> = name.split('.').collect();
        let plain = |key: &&str| {
            (1..=32).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if keys.len() > 4 || !keys.iter().all(plain) {
            return Err(fail());
        }
        let mut at = self;
        for key in keys {
            at = match key.parse::<usize>() {
                Ok(number) if number < MOST_ITEMS => {
                    if *at == UploadPart::Absent {
                        *at = UploadPart::List(Vec::new());
                    }
                    let UploadPart::List(items) = at else { return Err(fail()) };
                    while items.len() <= number {
                        items.push(UploadPart::Absent);
                    }
                    &mut items[number]
                }
                Ok(_) => return Err(fail()),
                Err(_) => {
                    if *at == UploadPart::Absent {
                        *at = UploadPart::nothing();
                    }
                    let UploadPart::Object(fields) = at else { return Err(fail()) };
                    fields.entry(key.to_string()).or_insert(UploadPart::Absent)
                }
            };
        }
        if *at != UploadPart::Absent {
            return Err(Error::Bad(format!("{name:?} is given more than once")));
        }
        *at = part;
        Ok(())
    }

    /// Parses a part that is text or a file as JSON; returns any other part unchanged.
    fn parsed(self, expected: &str) -> Result<UploadPart, Fault> {
        let (name, json) = match &self {
            UploadPart::Text { name, text } => (name, text.as_bytes()),
            UploadPart::File { name, bytes } => (name, &bytes[..]),
            _ => return Ok(self),
        };
        let value = from_json(json);
        value
            .map(UploadPart::Json)
            .map_err(|error| Fault::custom(format!("part {name:?}: expected {expected} in JSON: {error}")))
    }
}

impl From<Value> for UploadPart {
    fn from(value: Value) -> UploadPart {
        match value {
            Value::Null => UploadPart::Absent,
            Value::Array(items) => UploadPart::List(items.into_iter().map(UploadPart::from).collect()),
            Value::Object(fields) => {
                UploadPart::Object(fields.into_iter().map(|(key, field)| (key, UploadPart::from(field))).collect())
            }
            value => UploadPart::Json(value),
        }
    }
}

/// Reads JSON once it is known how many values it has.
///
/// # Errors
/// Too many values, or what is wrong where.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, Fault> {
    let (mut text, mut escaped, mut count) = (false, false, 0);
    // A body cannot have more values than bytes.
    for &byte in json.iter().filter(|_| json.len() > MOST_VALUES) {
        match (text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => text = !text,
            (false, b',' | b'[' | b'{') => count += 1,
            _ => {}
        }
    }
    if count > MOST_VALUES {
        return Err(Fault::custom(format!("too many values: {count} (limit {MOST_VALUES})")));
    }
    serde_json::from_slice(json)
}

impl<'de> Deserializer<'de> for UploadPart {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let named = |name: &str, error: Fault| Fault::custom(format!("part {name:?}: {error}"));
        match self {
            UploadPart::Absent => visitor.visit_unit(),
            UploadPart::Text { name, text } => visitor.visit_string(text).map_err(|error| named(&name, error)),
            // Texts take the bytes if they are UTF-8.
            UploadPart::File { name, bytes } => {
                visitor.visit_byte_buf(bytes.into()).map_err(|error| named(&name, error))
            }
            UploadPart::Json(value) => value.deserialize_any(visitor),
            UploadPart::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            UploadPart::Object(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            UploadPart::Absent => visitor.visit_none(),
            part => visitor.visit_some(part),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.parsed("a list")?.deserialize_any(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.parsed("an object")?.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            UploadPart::Text { text, .. } => visitor.visit_enum(text.into_deserializer()),
            UploadPart::Json(value) => value.deserialize_enum(name, variants, visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Fault> for UploadPart {
    type Deserializer = UploadPart;

    fn into_deserializer(self) -> UploadPart {
        self
    }
}

/// Reads a number or a switch, which is text in a part.
pub fn number<'de, D: Deserializer<'de>, T: DeserializeOwned + std::str::FromStr>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let wrong = |value: &Value| serde::de::Error::custom(format!("invalid value {value}"));
    match &value {
        Value::Null => Ok(None),
        // Rust reads words such as `inf` and `NaN` as numbers.
        Value::String(text) if text.trim().parse::<f64>().is_ok_and(|number| !number.is_finite()) => Err(wrong(&value)),
        Value::String(text) => text.trim().parse().map(Some).map_err(|_| wrong(&value)),
        other => serde_json::from_value(other.clone()).map(Some).map_err(|_| wrong(&value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(name: &str, text: &str) -> UploadPart {
        UploadPart::Text { name: name.into(), text: text.into() }
    }

    fn value(part: UploadPart) -> Value {
        Value::deserialize(part).unwrap()
    }

    #[test]
    fn parts_are_placed_by_their_names() {
        let mut parts = UploadPart::nothing();
        for (name, value) in
            [("model", "m"), ("studies.1.frontal", "b"), ("studies.0.frontal", "a"), ("studies.0.id", "x")]
        {
            parts.place(name, text(name, value)).unwrap();
        }
        parts.merge(br#"{"count": 3, "points": [{"day": 1}]}"#).unwrap();
        parts.place("points.0.frontal", text("", "c")).unwrap();
        assert!(parts.merge(br#"{"model": "n"}"#).is_err() && parts.merge(b"[]").is_err());
        for name in [
            "../../etc/passwd",
            "studies.999999999999.frontal",
            "studies.64.x",
            "",
            "a..b",
            "model",
            "model.x",
            "studies.x",
            "a.b.c.d.e",
        ] {
            assert!(parts.place(name, text(name, "1")).is_err(), "{name}");
        }
        let points = json!([{"day": 1, "frontal": "c"}]);
        let studies = json!([{"frontal": "a", "id": "x"}, {"frontal": "b"}]);
        assert_eq!(value(parts), json!({"model": "m", "studies": studies, "count": 3, "points": points}));
    }

    #[test]
    fn what_is_expected_at_a_place_decides_what_a_part_means() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct TestRequest {
            report: String,
            #[serde(default)]
            note: Option<String>,
            names: Vec<String>,
            #[serde(default, deserialize_with = "number")]
            count: Option<u32>,
        }
        let read = |fields: Vec<(&str, UploadPart)>| {
            let mut parts = UploadPart::nothing();
            fields.into_iter().for_each(|(name, part)| parts.place(name, part).unwrap());
            TestRequest::deserialize(parts).map_err(|error| error.to_string())
        };
        let file = |bytes: &'static [u8]| UploadPart::File { name: "file".into(), bytes: Bytes::from_static(bytes) };
        for report in ["[** 2150-3-1 **] Clear.", "{clear}", "part:0", "[\"x\"]", "null", "7"] {
            let found = read(vec![("report", text("report", report)), ("names", text("names", "[\"a\"]"))]).unwrap();
            assert_eq!((&*found.report, found.names), (report, vec!["a".to_string()]));
        }
        // The parts may also be sent as files, such as `-F report=@report.txt`.
        let found =
            read(vec![("report", file(b"[** a **]")), ("names", file(b"[]")), ("count", text("", "3"))]).unwrap();
        assert_eq!(found, TestRequest { report: "[** a **]".into(), note: None, names: vec![], count: Some(3) });
        for (fields, expected) in [
            (
                vec![("report", text("", "x")), ("names", text("names", "[** a **]"))],
                "part \"names\": expected a list in JSON",
            ),
            (vec![("report", file(b"\xff\xfe")), ("names", text("", "[]"))], "part \"file\": "),
            (vec![("report", text("", "x")), ("names", text("", "{}"))], "invalid type: map"),
        ] {
            let error = read(fields).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn values_are_counted_before_they_are_built() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(from_json::<Vec<u8>>(list(MOST_VALUES - 1).as_bytes()).is_ok());
        assert!(
            from_json::<Vec<u8>>(list(MOST_VALUES).as_bytes()).unwrap_err().to_string().contains("too many values")
        );
        let text = format!("\"\\\"{}\"", ",[{".repeat(MOST_VALUES));
        assert!(from_json::<String>(text.as_bytes()).is_ok(), "a text is one value");
    }
}
