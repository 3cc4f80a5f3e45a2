//! The JSON of values of this program.
//!
//! Serialisation fails only for values that have no JSON, such as a map whose keys are not text.
//! This program has no such value; with one, an empty text would be written to a file, or hashed,
//! as if it were the value.

use serde::Serialize;

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

fn no_json<T: ?Sized>(error: &serde_json::Error) -> ! {
    panic!("a value of type {} has no JSON: {error}", std::any::type_name::<T>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::catch_unwind;

    #[test]
    fn what_has_no_json_is_never_an_empty_text() {
        assert_eq!(super::text(&BTreeMap::from([("a", 1)])), r#"{"a":1}"#);
        assert_eq!(super::indented(&[1]), "[\n  1\n]");
        let none = BTreeMap::from([((1, 2), 3)]);
        assert!(catch_unwind(|| super::text(&none)).is_err());
        assert!(catch_unwind(|| super::indented(&none)).is_err());
    }
}
