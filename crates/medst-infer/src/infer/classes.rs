//! Classes that are described by sentences.
//!
//! Findings are present or absent independently of each other: each has sentences that affirm it
//! and sentences that deny it. Exclusive classes are alternatives of which exactly one is true:
//! each has sentences that affirm it. A class without sentences gets those of the zero-shot
//! benchmark (paper, section 4; [`crate::labels::prompts`]).
//!
//! A file of classes:
//!
//! ```toml
//! kind = "findings"            # or "exclusive"
//! [[class]]
//! name = "pneumonia"
//! positive = ["Findings consistent with pneumonia"]
//! negative = ["No evidence of pneumonia"]
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use medst_data::files::sha256_of;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::text::Text;
use crate::labels::prompts;
use crate::{Error, Result};
use medst_data::{input, json};

/// Whether classes exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassKind {
    #[default]
    Findings,
    Exclusive,
}

/// A class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub name: String,
    /// Sentences that say it.
    #[serde(default)]
    pub positive: Vec<String>,
    /// Sentences that deny it; none for exclusive classes.
    #[serde(default)]
    pub negative: Vec<String>,
}

/// Classes that were checked: names are unique, and each has the sentences that its kind needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Classes {
    pub kind: ClassKind,
    pub classes: Vec<Class>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    kind: ClassKind,
    #[serde(rename = "class", default)]
    classes: Vec<Class>,
}

impl Classes {
    /// # Errors
    /// No classes, one class of an exclusive kind, a name twice, a sentence too few or too many.
    pub fn new(kind: ClassKind, classes: Vec<Class>) -> Result<Classes> {
        let fail = |message: String| Err(Error::Input(message));
        let mut named = BTreeSet::new();
        let mut checked = Vec::new();
        for mut class in classes {
            class.name = class.name.trim().to_string();
            if class.name.is_empty() {
                return fail("a class has no name".into());
            }
            if !named.insert(class.name.to_lowercase()) {
                return fail(format!("class {} is given twice", class.name));
            }
            let without = class.positive.is_empty() && class.negative.is_empty();
            if without {
                class.positive = prompts::positive(&class.name);
                if kind == ClassKind::Findings {
                    class.negative = prompts::negative(&class.name);
                }
            }
            match kind {
                _ if class.positive.is_empty() => {
                    return fail(format!("class {}: give at least one positive sentence", class.name));
                }
                ClassKind::Findings if class.negative.is_empty() => {
                    return fail(format!(
                        "class {}: give at least one negative sentence; a finding needs positive and negative ones",
                        class.name
                    ));
                }
                ClassKind::Exclusive if !class.negative.is_empty() => {
                    return fail(format!("class {}: exclusive classes must have positive sentences only", class.name));
                }
                _ => {}
            }
            checked.push(class);
        }
        match (checked.len(), kind) {
            (0, _) => fail("give at least one class".into()),
            (1, ClassKind::Exclusive) => fail("give two or more exclusive classes".into()),
            _ => Ok(Classes { kind, classes: checked }),
        }
    }

    /// From names, and optionally sentences: `NAME` or `NAME=sentence|sentence`.
    ///
    /// # Errors
    /// As [`Classes::new`].
    pub fn from_names(kind: ClassKind, names: &[String]) -> Result<Classes> {
        let class = |name: &String| match name.split_once('=') {
            None => Class { name: name.clone(), positive: Vec::new(), negative: Vec::new() },
            Some((name, sentences)) => {
                let positive: Vec<String> = sentences
                    .split('|')
                    .map(str::trim)
                    .filter(|sentence| !sentence.is_empty())
                    .map(str::to_string)
                    .collect();
                let negative = if kind == ClassKind::Findings { prompts::negative(name.trim()) } else { Vec::new() };
                Class { name: name.into(), positive, negative }
            }
        };
        Classes::new(kind, names.iter().map(class).collect())
    }

    /// From a TOML file.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(path: &Path) -> Result<Classes> {
        let fail = |message: String| Error::Input(format!("{}: {message}", path.display()));
        let text = input::read_to_string(path, input::TEXT).map_err(Error::io(path))?;
        let file: File = toml::from_str(&text).map_err(|error| fail(error.to_string().trim_end().to_string()))?;
        Classes::new(file.kind, file.classes).map_err(|error| fail(error.to_string()))
    }

    pub fn names(&self) -> Vec<&str> {
        self.classes.iter().map(|class| class.name.as_str()).collect()
    }

    /// SHA-256 of kind, names and sentences: a calibration holds for these alone.
    pub fn checksum(&self) -> String {
        sha256_of(json::text(self).as_bytes())
    }

    /// All sentences, class by class, positive ones first.
    pub fn sentences(&self) -> impl Iterator<Item = &String> {
        self.classes.iter().flat_map(|class| class.positive.iter().chain(&class.negative))
    }
}

/// Classes as directions in the embedding space.
#[derive(Clone, Debug)]
pub struct Prototypes {
    pub classes: Classes,
    /// For each class its positive and, for findings, its negative direction; unit vectors of `D`.
    directions: Vec<(Vec<f32>, Option<Vec<f32>>)>,
}

impl Prototypes {
    /// Reads and embeds the sentences.
    ///
    /// # Errors
    /// A sentence without words or longer than the window: class and sentence are named.
    pub fn new(engine: &Engine, classes: Classes) -> Result<Prototypes> {
        let named = |class: &Class, sentence: &String| {
            let text = engine.reader().prompt(sentence);
            text.map_err(|error| Error::Input(format!("class {}: {error}", class.name)))
        };
        let mut texts: Vec<Text> = Vec::new();
        for class in &classes.classes {
            for sentence in class.positive.iter().chain(&class.negative) {
                texts.push(named(class, sentence)?);
            }
        }
        let vectors = engine.texts(&texts.iter().collect::<Vec<_>>())?;
        let mut next = 0;
        let mut direction = |count: usize| {
            let rows: Vec<usize> = (next..next + count).collect();
            next += count;
            (count > 0).then(|| vectors.select(&rows).mean_direction())
        };
        let directions = classes
            .classes
            .iter()
            .filter_map(|class| Some((direction(class.positive.len())?, direction(class.negative.len()))))
            .collect();
        Ok(Prototypes { classes, directions })
    }

    /// For each class the score of an image: cosine to what says it, for findings less that to what
    /// denies it.
    pub fn scores(&self, image: &[f32]) -> Vec<f64> {
        let dot = |a: &[f32]| a.iter().zip(image).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        self.directions.iter().map(|(yes, no)| dot(yes) - no.as_deref().map_or(0.0, dot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn classes_without_sentences_get_the_benchmarks() {
        let classes = Classes::from_names(ClassKind::Findings, &names(&["pneumonia", "line=a line|a tube"])).unwrap();
        assert_eq!(classes.classes[0].positive, prompts::positive("pneumonia"));
        assert_eq!(classes.classes[1].positive, ["a line", "a tube"]);
        assert_eq!(classes.classes[1].negative, prompts::negative("line"));
        let exclusive = Classes::from_names(ClassKind::Exclusive, &names(&["normal", "edema"])).unwrap();
        assert!(exclusive.classes.iter().all(|class| class.negative.is_empty()));
        assert_ne!(classes.checksum(), exclusive.checksum());
    }

    #[test]
    fn faulty_classes_are_refused_with_their_name() {
        for (kind, given, expected) in [
            (ClassKind::Findings, &[][..], "give at least one class"),
            (ClassKind::Findings, &["edema", "Edema"], "twice"),
            (ClassKind::Findings, &["edema= | "], "edema: give at least one positive"),
            (ClassKind::Findings, &[" "], "no name"),
            (ClassKind::Exclusive, &["edema"], "give two or more exclusive classes"),
        ] {
            let error = Classes::from_names(kind, &names(given)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, expected) in [
            ("kind = \"findings\"\n[[class]]\nname = \"x\"\npositiv = [\"a\"]\n", "positiv"),
            ("[[class]]\nname = \"x\"\npositive = [\"a\"]\n", "class x: give at least one negative"),
            (
                "kind = \"exclusive\"\n[[class]]\nname = \"x\"\npositive = [\"a\"]\nnegative = [\"b\"]\n",
                "positive sentences only",
            ),
            ("kind = \"maybe\"", "exclusive"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = Classes::read(file.path()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(file.path().to_str().unwrap()), "{error}");
        }
    }
}
