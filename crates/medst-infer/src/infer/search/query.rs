//! What is asked of an index, and what answers.

use std::collections::BTreeSet;
use std::fmt;

use medst_data::import::values;
use serde::Serialize;

use super::exact::nearest;
use super::index::{Among, Index, StudyRecord};
use crate::labels::{truth, words};
use crate::{Error, Result};

/// Which studies may answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only these subjects; empty: all.
    pub subjects: Vec<String>,
    pub not_subjects: Vec<String>,
    /// Days, both ends included.
    pub from: Option<f64>,
    pub to: Option<f64>,
    /// Labels and the values they must have.
    pub findings: Vec<(String, LabelCondition)>,
}

/// What the value of a label must be.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelCondition {
    Present,
    Absent,
    Value(String),
}

/// A question: a unit vector, and how many answers.
#[derive(Clone, Debug)]
pub struct Query {
    /// `D`.
    pub vector: Vec<f32>,
    pub count: usize,
    pub among: Among,
    pub filter: Filter,
    /// Search exactly also where there is a graph.
    pub exact: bool,
    /// A study to leave out of the answers, such as the one that the question came from.
    pub not: Option<usize>,
}

/// A study that answers.
#[derive(Clone, Debug, Serialize)]
pub struct Hit {
    pub place: usize,
    /// Cosine.
    pub similarity: f64,
    #[serde(flatten)]
    pub study: StudyRecord,
}

/// The nearest studies.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    pub among: Among,
    /// Studies that pass the filter and have a vector.
    pub candidates: usize,
    pub exact: bool,
    /// Where it was not exact: the graph's recall@10 against exact search, from when it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    pub found: Vec<Hit>,
}

impl Filter {
    /// Reads a day: a number of days, or a date.
    ///
    /// # Errors
    /// Text that is neither; the message states what is expected.
    pub fn day(text: &str) -> Result<f64> {
        let day = values::date(text).or_else(|| values::day(text));
        day.map(|day| day.0)
            .ok_or_else(|| Error::Input(format!("`{text}` is neither a date such as 2020-03-31 nor a number of days")))
    }

    /// Reads `edema`, `edema=1`, `edema=0`, `label=value`.
    ///
    /// # Errors
    /// An empty name.
    pub fn finding(text: &str) -> Result<(String, LabelCondition)> {
        let (name, value) = text.split_once('=').unwrap_or((text, "1"));
        let condition = match value.trim() {
            "1" | "yes" => LabelCondition::Present,
            "0" | "no" => LabelCondition::Absent,
            value => LabelCondition::Value(value.to_string()),
        };
        if name.trim().is_empty() {
            Err(Error::Input(format!("`{text}`: expected a label, LABEL=0 or COLUMN=VALUE")))
        } else {
            Ok((words(name), condition))
        }
    }

    /// Whether it lets everything through.
    pub fn is_open(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether a study may answer. An unknown value does not pass a filter.
    pub fn passes(&self, study: &StudyRecord) -> bool {
        let of = |subjects: &[String]| study.subject.as_ref().is_some_and(|subject| subjects.contains(subject));
        let day = study.acquired.map(|day| day.0);
        let label = |(name, condition): &(String, LabelCondition)| {
            let cell = study.labels.iter().find(|(column, _)| words(column) == *name).map(|cell| cell.1.as_str());
            match (cell, condition) {
                (None, _) => false,
                (Some(cell), LabelCondition::Value(value)) => words(cell) == words(value),
                (Some(cell), condition) => {
                    truth::binary(cell).ok().flatten() == Some(matches!(condition, LabelCondition::Present))
                }
            }
        };
        (self.subjects.is_empty() || of(&self.subjects))
            && !of(&self.not_subjects)
            && self.from.is_none_or(|from| day.is_some_and(|day| day >= from))
            && self.to.is_none_or(|to| day.is_some_and(|day| day <= to))
            && self.findings.iter().all(label)
    }
}

/// The direction of an image and a text together.
///
/// * `text_share`: how much the text counts, in `[0, 1]`; without one of both the other is taken
///   alone.
pub fn together(image: Option<&[f32]>, text: Option<&[f32]>, text_share: f32) -> Option<Vec<f32>> {
    let mixed: Vec<f32> = match (image, text) {
        (Some(image), Some(text)) => {
            image.iter().zip(text).map(|(image, text)| (1.0 - text_share) * image + text_share * text).collect()
        }
        (one, other) => one.or(other)?.to_vec(),
    };
    let length = mixed.iter().map(|x| x * x).sum::<f32>().sqrt();
    Some(mixed.into_iter().map(|x| if length > 0.0 { x / length } else { x }).collect())
}

impl Index {
    /// The nearest studies.
    ///
    /// # Errors
    /// A vector of another width; a filter by a label that no study has.
    pub fn search(&self, query: &Query) -> Result<Answer> {
        let vectors = match query.among {
            Among::Images => &self.images,
            Among::Reports => &self.reports,
        };
        if query.vector.len() != vectors.width() {
            let (length, width) = (query.vector.len(), vectors.width());
            return Err(Error::Input(format!("the query has {length} values, but the index has {width}")));
        }
        let (has, open) = (self.has(query.among), query.filter.is_open());
        let may =
            |&row: &usize| has[row] && query.not != Some(row) && (open || query.filter.passes(&self.studies[row]));
        let rows: Vec<usize> = (0..self.studies.len()).filter(may).collect();
        if rows.is_empty() {
            self.check_labels(&query.filter)?;
        }
        let graph = self.graph.as_ref().filter(|_| query.among == Among::Images && !query.exact && open);
        let near = graph.map(|graph| {
            // One more, in case the study that was asked with is among them.
            let near = graph.nearest(&query.vector, query.count + usize::from(query.not.is_some()));
            near.into_iter().filter(|row| query.not != Some(*row)).collect::<Vec<_>>()
        });
        // A walk through a graph may end before it has met enough studies.
        let near = near.filter(|near| near.len() >= query.count.min(rows.len()));
        let best = nearest(vectors, near.as_ref().unwrap_or(&rows), &query.vector, query.count);
        let hit = |(index, (row, similarity)): (usize, (usize, f32))| Hit {
            place: index + 1,
            similarity: f64::from(similarity),
            study: self.studies[row].clone(),
        };
        Ok(Answer {
            among: query.among,
            candidates: rows.len(),
            exact: near.is_none(),
            recall: near.as_ref().and_then(|_| self.graph_recall()),
            found: best.into_iter().enumerate().map(hit).collect(),
        })
    }

    /// Refuses labels that no study has: they are misspelt, or not of this index.
    fn check_labels(&self, filter: &Filter) -> Result<()> {
        let known: BTreeSet<String> =
            self.studies.iter().flat_map(|study| study.labels.keys()).map(|column| words(column)).collect();
        match filter.findings.iter().find(|(name, _)| !known.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let known: Vec<String> = known.into_iter().take(40).collect();
                let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
                Err(Error::Input(format!("no study of the index has a label `{name}`; labels of the index: {known}")))
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.found.iter().map(|hit| hit.study.study.chars().count()).max().unwrap_or(0).clamp(5, 60);
        for hit in &self.found {
            let StudyRecord { study, subject, acquired, report, labels, .. } = &hit.study;
            write!(f, "{:>3}  {:.3}  {study:id$}", hit.place, hit.similarity)?;
            if let Some(subject) = subject {
                write!(f, "  subject {subject}")?;
            }
            if let Some(day) = acquired {
                write!(f, "  day {}", day.0)?;
            }
            let there = labels.iter().filter(|(_, cell)| truth::binary(cell).ok().flatten() == Some(true));
            let there: Vec<String> = there.map(|(column, _)| words(column)).collect();
            if !there.is_empty() {
                write!(f, "  [{}]", there.join(", "))?;
            }
            if let Some(report) = report {
                // Sentences are lines.
                let report = report.replace('\n', ". ");
                let short: String = report.chars().take(70).collect();
                write!(f, "  “{short}{}”", if short.len() < report.len() { "…" } else { "" })?;
            }
            writeln!(f)?;
        }
        write!(f, "{} of {} candidates, ", self.found.len(), self.candidates)?;
        match self.recall {
            None => writeln!(f, "exact"),
            Some(recall) => {
                writeln!(f, "approximate (recall@10 {:.1} %); search exactly with --exact", recall * 100.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medst_data::study::Day;

    fn record(subject: &str, day: f64, edema: &str) -> StudyRecord {
        StudyRecord {
            study: format!("{subject}-{day}"),
            subject: Some(subject.into()),
            acquired: Some(Day(day)),
            frontal: None,
            report: None,
            labels: [("Edema".to_string(), edema.to_string()), ("site".into(), "North".into())].into(),
        }
    }

    #[test]
    fn filters_let_through_what_they_say() {
        let study = record("a", 10.0, "1");
        let with = |change: &dyn Fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter.passes(&study)
        };
        assert!(with(&|_| {}));
        assert!(with(&|filter| filter.subjects = vec!["b".into(), "a".into()]));
        assert!(!with(&|filter| filter.subjects = vec!["b".into()]));
        assert!(!with(&|filter| filter.not_subjects = vec!["a".into()]));
        assert!(with(&|filter| (filter.from, filter.to) = (Some(10.0), Some(10.0))));
        assert!(!with(&|filter| filter.from = Some(10.5)));
        for (text, passes) in
            [("edema", true), ("edema=1", true), ("edema=0", false), ("site=north", true), ("pneumonia=0", false)]
        {
            assert_eq!(with(&|filter| filter.findings = vec![Filter::finding(text).unwrap()]), passes, "{text}");
        }
        assert!(Filter::finding(" =1").is_err());
        assert_eq!((Filter::day("1970-01-11").unwrap(), Filter::day("-3").unwrap()), (10.0, -3.0));
        assert!(Filter::day("soon").is_err());
        let dateless = StudyRecord { acquired: None, subject: None, ..study.clone() };
        assert!(!Filter { to: Some(99.0), ..Filter::default() }.passes(&dateless));
        assert!(Filter { not_subjects: vec!["a".into()], ..Filter::default() }.passes(&dateless));
    }
}
