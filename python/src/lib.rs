//! The native half of the Python package `medst`, called by `medst/*.py`, which have the user
//! documentation.
//!
//! | file | what |
//! |---|---|
//! | `array` | numbers passed to and from Python without copying |
//! | `task` | long work: without the interpreter's lock, with Ctrl-C and progress |
//! | `errors` | errors to exceptions |
//! | `pictures`, `engine` | a model in use |
//! | `losses` | losses with gradients |
//! | `data`, `evaluate` | corpora, cohorts, evaluation |

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod array;
mod data;
mod engine;
mod errors;
mod evaluate;
mod losses;
mod pictures;
mod task;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The `medst` command; returns its exit code.
#[pyfunction]
fn command(py: Python<'_>, typed: Vec<OsString>) -> u8 {
    py.detach(|| medst_cli::run(typed))
}

/// The names of the models that are part of the package.
#[pyfunction]
fn model_names() -> Vec<&'static str> {
    medst_model::model::builtin::MODELS.map(|model| model.name).to_vec()
}

/// Passes a warning of the library to Python's `warnings`.
fn warn(line: &str) {
    // If Python turns warnings into errors, no caller could receive the exception, so it is
    // dropped.
    let _ = Python::attach(|py| py.import("warnings")?.call_method1("warn", (line,)).map(drop));
}

#[pymodule]
mod _medst {
    #[pymodule_init]
    fn init() {
        medst_data::warning::send_to(super::warn);
    }

    #[pymodule_export]
    use super::array::Array;
    #[pymodule_export]
    use super::command;
    #[pymodule_export]
    use super::data::{Corpus, draw_phantom, prepare_table};
    #[pymodule_export]
    use super::engine::{Engine, Rows};
    #[pymodule_export]
    use super::evaluate::{evaluate_model, evaluate_vectors, evaluation_texts};
    #[pymodule_export]
    use super::losses::{global_alignment, local_alignment, retrieval_accuracy, temporal_mapping};
    #[pymodule_export]
    use super::model_names;
    #[pymodule_export]
    const ENGINE: &str = medst_model::device::ENGINE;
    #[pymodule_export]
    const MS_CXR_T: [&str; 5] = medst_infer::labels::prompts::MS_CXR_T;
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
