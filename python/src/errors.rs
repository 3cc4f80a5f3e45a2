//! Converts errors of the library to the exceptions of `medst/_errors.py`.

use std::io::ErrorKind;
use std::path::Path;

use medst_model::Error;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The Python exception for an error.
pub fn exception(py: Python<'_>, error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Io { path, source } | Error::Data(medst_data::Error::Io { path, source }) => file(py, &path, &source),
        Error::Stopped | Error::Data(medst_data::Error::Stopped) => PyKeyboardInterrupt::new_err(()),
        Error::Config(_) | Error::Input(_) | Error::Evaluation(_) | Error::Data(medst_data::Error::Usage(_)) => {
            named(py, "InputError", (text,))
        }
        Error::Data(medst_data::Error::Image { .. }) => named(py, "ImageError", (text,)),
        Error::Data(_) | Error::Weights { .. } | Error::Checkpoint { .. } => named(py, "DataError", (text,)),
        _ => named(py, "EngineError", (text,)),
    }
}

/// An `OSError`, by number, with the file's name.
fn file(py: Python<'_>, path: &Path, source: &std::io::Error) -> PyErr {
    let name = match source.kind() {
        ErrorKind::NotFound => "MissingFileError",
        ErrorKind::PermissionDenied => "FilePermissionError",
        _ => "FileError",
    };
    // Rust's text ends in "(os error 2)", which repeats the number.
    let text = source.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_string();
    named(py, name, (source.raw_os_error(), text, path.display().to_string()))
}

/// An error about an unusable argument.
pub fn input(py: Python<'_>, message: impl Into<String>) -> PyErr {
    named(py, "InputError", (message.into(),))
}

fn named<'py>(
    py: Python<'py>,
    name: &str,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyErr {
    let made = || {
        let arguments = arguments.into_pyobject(py)?;
        py.import("medst._errors")?.getattr(name)?.call1(arguments)
    };
    match made() {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
