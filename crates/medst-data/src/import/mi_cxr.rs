//! MI-CXR: five-way questions about series of five images of MIMIC-CXR.
//!
//! The corpus holds every image as a separate study (its id is the DICOM id) and every series as a
//! sequence; `questions.csv` holds the questions, with the studies in the columns `T1` to `T5`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::assemble::Assembly;
use super::ids::image_name;
use super::mimic_cxr::MimicCxr;
use super::mimic_cxr::named::Named;
pub use super::plan::QUESTIONS;
use super::plan::TextTable;
use super::{Planned, PrepareOptions};
use crate::json::Unique;
use crate::progress::Progress;
use crate::split::Split;
use crate::{Error, Reason, Result};

const FILE: &str = "micxr_test.jsonl";
const TIMES: [&str; 5] = ["T1", "T2", "T3", "T4", "T5"];
const CHOICES: [&str; 5] = ["A", "B", "C", "D", "E"];

/// The folders of the parts.
#[derive(Clone, Debug, Default)]
pub struct MiCxr {
    /// The folder with `micxr_test.jsonl`.
    pub root: PathBuf,
    /// The MIMIC-CXR whose images the questions name.
    pub images: MimicCxr,
}

struct Question {
    /// The line of the file.
    line: u64,
    about: [String; 3],
    images: Vec<String>,
    question: String,
    choices: Vec<String>,
    answer: String,
}

/// Reads the questions, and where the images are.
///
/// # Errors
/// A file that is missing, or a line that cannot be understood.
pub fn plan(source: &MiCxr, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
    let file = source.root.join(FILE);
    if !file.exists() {
        return Err(Error::Usage(format!("{} is not MI-CXR: it has no {FILE}", source.root.display())));
    }
    let questions = read(&file)?;
    let ids = questions.iter().flat_map(|question| question.images.clone());
    let (images, main) = Named::find(&source.images, ids, Split::Test, progress)?;
    let mut assembly = Assembly::new(&file, options)?;
    let (mut sequences, mut series) = (Vec::new(), HashSet::new());
    let fixed = ["qid", "group_type", "qtype"].into_iter().chain(TIMES).chain(["question"]).chain(CHOICES);
    let columns = fixed.chain(["answer"]).map(String::from).collect();
    let mut table = TextTable { name: QUESTIONS.into(), columns, rows: Vec::new() };
    for Question { line, about, images: ids, question, choices, answer } in questions {
        let Some(indices) = images.add_all(&mut assembly, &ids, line)? else {
            assembly.plan.warn("questions about an image that is not used, left out");
            continue;
        };
        if series.insert(indices.clone()) {
            sequences.push(indices);
        }
        let cells = about.into_iter().chain(ids).chain([question]).chain(choices).chain([answer]);
        table.rows.push(cells.collect());
    }
    assembly.plan.sequences = Some(sequences);
    let mut plan = assembly.finish(options)?;
    let studies: HashSet<&str> = plan.studies.iter().map(|study| study.study.0.as_str()).collect();
    // Those about excluded subjects go with them.
    let before = table.rows.len();
    table.rows.retain(|row| row[3..8].iter().all(|id| studies.contains(id.as_str())));
    let lost = (before - table.rows.len()) as u64;
    if lost > 0 {
        plan.warnings.insert("questions about a study that was left out, left out too".into(), lost);
    }
    plan.tables.push(table);
    Ok(Planned { plan, files: vec![file, main] })
}

fn read(path: &Path) -> Result<Vec<Question>> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut questions = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let fail = |message: String| Error::Table {
            path: path.to_path_buf(),
            message: format!("line {}: {message}", number + 1),
        };
        let Unique(value) = serde_json::from_str(&line).map_err(|error| {
            let message = error.to_string();
            let what = message.split(" at line ").next().unwrap_or_default();
            fail(format!("{what} (column {})", error.column()))
        })?;
        questions.push(question(&value, number as u64 + 1).map_err(|reason| fail(reason.into()))?);
    }
    Ok(questions)
}

fn question(value: &Value, line: u64) -> Result<Question, Reason> {
    let fields: Vec<String> = value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let absent = |name: &str| format!("field `{name}` is missing (fields: {})", fields.join(", "));
    let text = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("{name} is neither a text nor a number")),
        None => Err(absent(name)),
    };
    // Five things, in order or by name.
    let five = |name: &str, keys: [&str; 5]| {
        let all: Option<Vec<String>> = match value.get(name) {
            Some(Value::Array(all)) => all.iter().map(|text| text.as_str().map(str::to_string)).collect(),
            Some(Value::Object(all)) => keys.iter().map(|key| all.get(*key)?.as_str().map(str::to_string)).collect(),
            Some(_) => None,
            None => return Err(absent(name)),
        };
        all.filter(|all| all.len() == 5).ok_or_else(|| format!("{name} must contain five texts ({})", keys.join(", ")))
    };
    let answer = text("answer")?;
    if !CHOICES.contains(&answer.as_str()) {
        return Err(format!("answer is `{answer}`; expected A to E").into());
    }
    Ok(Question {
        line,
        // The publisher's page calls it qid; the published file, q_id.
        about: [text("qid").or_else(|missing| text("q_id").map_err(|_| missing))?, text("group_type")?, text("qtype")?],
        images: five("images", TIMES)?.iter().map(|path| image_name(Path::new(path))).collect(),
        question: text("question")?,
        choices: five("choices", CHOICES)?,
        answer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_name_five_images_and_one_answer() {
        let value = |images: Value, answer: &str| {
            serde_json::json!({"q_id": 7, "group_type": "TEL", "qtype": "onset", "images": images, "question": "When?",
                "choices": {"A": "1", "B": "2", "C": "3", "D": "4", "E": "5"}, "answer": answer})
        };
        let listed = serde_json::json!(["files/a.jpg", "files/b.jpg", "c.jpg", "d.jpg", "e.jpg"]);
        let named = serde_json::json!({"T2": "b.jpg", "T1": "a.jpg", "T3": "c.jpg", "T4": "d.jpg", "T5": "e.jpg"});
        for images in [listed, named] {
            let question = question(&value(images, "C"), 1).unwrap();
            assert_eq!(question.images, ["a", "b", "c", "d", "e"]);
            assert_eq!((question.about[0].as_str(), question.choices[4].as_str()), ("7", "5"));
        }
        let four = serde_json::json!(["a", "b", "c", "d"]);
        for (images, answer, words) in
            [(four.clone(), "A", "images must contain five texts"), (four, "F", "answer is `F`")]
        {
            let error = question(&value(images, answer), 1).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
