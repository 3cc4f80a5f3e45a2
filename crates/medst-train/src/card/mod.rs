//! Model and data cards: Markdown that describes a model or corpus, filled in from what the program
//! has recorded, with the questions that only its publisher can answer.
//!
//! The text is in `assets/model-card.md` and `assets/data-card.md`; `{{key}}` is a place to fill.

mod croissant;
mod data;
mod evaluation;
mod model;

use std::path::Path;

use medst_data::corpus::Corpus;
use medst_data::gather::is_corpus;

use crate::Result;
use crate::weights_input::Input;

/// The card of a corpus, a run, a model or a checkpoint.
///
/// * `results`: `results.json` of `medst eval`, whose figures a model's card then has.
///
/// # Errors
/// A path that is none of these, files that cannot be read.
pub fn render(path: &Path, results: Option<&Path>) -> Result<String> {
    if is_corpus(path) {
        return Ok(data::card(&Corpus::open(path)?, path));
    }
    model::card(path, results)
}

/// The card of a model that was made for a hub.
///
/// * `inputs`: the files that it was made from; if there is only one, the card describes its
///   training.
///
/// # Errors
/// Files that cannot be read.
pub fn for_hub(folder: &Path, inputs: &[Input]) -> Result<String> {
    let run = match inputs {
        [Input { part: None, path }] => path,
        _ => folder,
    };
    model::described(folder, run, None)
}

/// The Croissant metadata of a corpus.
///
/// # Errors
/// A path that is not a corpus, files that cannot be read.
pub fn croissant(path: &Path) -> Result<String> {
    croissant::card(&Corpus::open(path)?, path)
}

/// The name of a folder, for a title.
fn name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Fills the places of a template.
///
/// # Panics
/// In tests, when a place has no value or a value no place: the two are written together.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = template.to_string();
    for (key, value) in values {
        let place = format!("{{{{{key}}}}}");
        debug_assert!(text.contains(&place), "{place} is not in the template");
        text = text.replace(&place, value);
    }
    text
}
