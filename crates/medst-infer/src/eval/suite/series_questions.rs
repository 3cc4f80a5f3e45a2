//! The questions of `questions.csv`, as `medst prepare mi-cxr` writes them.

use std::collections::{BTreeSet, HashMap};

use medst_data::corpus::Corpus;
use medst_data::corpus::plan::{QUESTIONS, TextTable};

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks};
use crate::Result;
use crate::eval::encode::RowVectors;
use crate::eval::result::TaskResult;
use crate::eval::tasks::{Question, QuestionVectors, SeriesQuestions};
use crate::labels::prompts;
use crate::labels::truth::{Skipped, skip};

const VISITS: [&str; 5] = ["T1", "T2", "T3", "T4", "T5"];
const CHOICES: [&str; 5] = ["A", "B", "C", "D", "E"];

struct Questions(Vec<Question>);

/// Reads the questions.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let found = questions(context.corpus, &context.table(QUESTIONS)?, &mut remarks.skipped)?;
    if found.is_empty() {
        return Err("no usable question".into());
    }
    Ok(Box::new(Questions(found)))
}

impl Plan for Questions {
    fn rows(&self, _: &Context<'_>) -> Vec<usize> {
        self.0.iter().flat_map(|question| &question.rows).copied().collect()
    }

    fn texts(&self) -> Vec<String> {
        let findings: BTreeSet<&String> = self.0.iter().flat_map(Question::findings).collect();
        let of_finding = |finding: &&String| [prompts::positive(finding), prompts::negative(finding)];
        let of_findings = findings.iter().flat_map(of_finding).flatten();
        of_findings.chain(self.0.iter().flat_map(Question::texts).cloned()).collect()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let images = &encoded.studies.images;
        let complete = |question: &Question| question.rows.iter().all(|&row| remarks.usable(images, row, "image"));
        let questions: Vec<Question> = self.0.into_iter().filter(complete).collect();
        let vectors = question_vectors(&questions, images, encoded)?;
        SeriesQuestions { bootstrap: context.bootstrap, by: &context.by }.evaluate(&questions, &vectors)
    }
}

/// What the questions compare.
fn question_vectors(questions: &[Question], images: &RowVectors, encoded: &Encoded<'_>) -> Result<QuestionVectors> {
    let mut vectors = QuestionVectors::default();
    for row in questions.iter().flat_map(|question| &question.rows) {
        vectors.images.entry(*row).or_insert_with(|| images.select(&[*row]).unit().into_values());
    }
    for finding in questions.iter().flat_map(Question::findings) {
        if !vectors.findings.contains_key(finding) {
            let [positive, negative] = [prompts::positive(finding), prompts::negative(finding)];
            let both = [encoded.of_texts(positive)?, encoded.of_texts(negative)?];
            vectors.findings.insert(finding.clone(), both);
        }
    }
    for text in questions.iter().flat_map(Question::texts) {
        vectors.texts.insert(text.clone(), encoded.of_texts([text])?.unit().into_values());
    }
    Ok(vectors)
}

/// Columns that are missing are an error.
fn questions(corpus: &Corpus, table: &TextTable, skipped: &mut Skipped) -> Result<Vec<Question>, Refusal> {
    let column = |name: &str| {
        let index = table.columns.iter().position(|column| column == name);
        index.ok_or_else(|| Refusal(format!("questions.csv has no column {name}")))
    };
    let all = |names: [&str; 5]| names.into_iter().map(column).collect::<Result<Vec<usize>, Refusal>>();
    let (visits, choices) = (all(VISITS)?, all(CHOICES)?);
    let [group, kind, words, answer] = ["group_type", "qtype", "question", "answer"].map(column);
    let (group, kind, words, answer) = (group?, kind?, words?, answer?);
    let rows: HashMap<&str, usize> =
        corpus.studies().iter().enumerate().map(|(row, study)| (study.study.0.as_str(), row)).collect();
    let mut found = Vec::new();
    for cells in &table.rows {
        let series: Option<Vec<usize>> = visits.iter().map(|&n| rows.get(cells[n].as_str()).copied()).collect();
        let Some(series) = series else {
            skip(skipped, "an image of the series is not in the corpus");
            continue;
        };
        let Some(right) = CHOICES.iter().position(|name| *name == cells[answer]) else {
            skip(skipped, format!("the answer is `{}`; expected A to E", cells[answer]));
            continue;
        };
        let texts: Vec<&str> = choices.iter().map(|&n| cells[n].as_str()).collect();
        let kinds = vec![cells[group].clone(), cells[kind].clone()];
        let subject = corpus.studies()[series[0]].subject.0.clone();
        found.push(Question::new(subject, series, kinds, &cells[words], &texts, right));
    }
    Ok(found)
}
