//! Questions about series of images with a few choices (MI-CXR), answered by the embeddings of the
//! series: no language model reads the question. What it asks and what its choices are is
//! recognised from its words ([`Asked`], [`Choice`]); each choice then gets a score, and the
//! highest one is the answer.
//!
//! With `s_v` the presence of the finding at visit `v` (cosine to sentences that state it minus
//! cosine to sentences that deny it):
//!
//! | choices | question | score |
//! |---|---|---|
//! | a visit `v` | where is it worst, mildest | `s_v`, `−s_v` |
//! | | where does it appear, resolve | the rise (fall) there: `√(v(n−v)/n)` times the mean of `s` from `v` on less that before |
//! | | where does it worsen, improve, stay | `s_v − s_(v−1)`, its negative, its negative size |
//! | two visits | the same | `s` at the second less that at the first, its negative, its negative size |
//! | findings | the same | the largest rise, fall, value; last less first |
//! | orders of the visits | | minus the length of the path through the images |
//! | anything else | | cosine of the choice's words to the mean image of the visits that it names, or of all |
//!
//! "Never" and the first visit have no rise: the first visit scores 0 where the mean presence is above 0, "never" where it is below.

use std::collections::HashMap;

use super::{Input, dot};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::bootstrap::{Bootstrap, Clusters};
use crate::eval::prompts;
use crate::eval::result::{Figure, Meter, Protocol, Task, TaskResult, Unit};
use crate::eval::subgroups::Subgroups;

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeriesQuestions<'a> {
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// The kind of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Appears,
    Resolves,
    Worst,
    Mildest,
    Worsens,
    Improves,
    Stable,
    /// Not recognised from its words.
    Unknown,
}

/// The meaning of a choice. Visits count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Visit(usize),
    Between(usize, usize),
    Order(Vec<usize>),
    Finding(String),
    Never,
    /// Words, with the visits that they name.
    Text(String, Vec<usize>),
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    pub subject: String,
    /// Rows of the corpus, in the order of the visits.
    pub rows: Vec<usize>,
    /// The kinds that the source puts it in.
    pub kinds: Vec<String>,
    pub asked: Asked,
    pub finding: Option<String>,
    pub choices: Vec<Choice>,
    pub answer: usize,
}

/// Vectors of the images and texts of the questions.
#[derive(Clone, Debug, Default)]
pub struct QuestionVectors {
    /// Unit vectors by row of the corpus.
    pub images: HashMap<usize, Vec<f32>>,
    /// Sentences that state and that deny each finding.
    pub findings: HashMap<String, [Vectors; 2]>,
    /// Vectors of the choices that are words.
    pub texts: HashMap<String, Vec<f32>>,
}

impl Asked {
    /// From the words of a question.
    pub fn of(words: &str) -> Asked {
        const STEMS: [(Asked, &[&str]); 7] = [
            (Asked::Resolves, &["resol", "disappear", "clear", "gone", "vanish"]),
            (Asked::Improves, &["improv", "decreas", "better", "regress"]),
            (Asked::Worsens, &["worsen", "increas", "progress", "deteriorat"]),
            (Asked::Stable, &["stable", "unchanged", "constant", "persist"]),
            (Asked::Appears, &["appear", "onset", "emerg", "new", "develop", "first"]),
            (Asked::Mildest, &["mild", "least", "lowest", "smallest", "minim"]),
            (Asked::Worst, &["worst", "sever", "peak", "greatest", "largest", "highest", "maxim", "most"]),
        ];
        let tokens = tokens(words);
        let tells = |stems: &[&str]| tokens.iter().any(|token| stems.iter().any(|stem| token.starts_with(stem)));
        STEMS.into_iter().find(|(_, stems)| tells(stems)).map_or(Asked::Unknown, |(asked, _)| asked)
    }
}

fn tokens(words: &str) -> Vec<String> {
    let split = words.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty());
    split.map(str::to_lowercase).collect()
}

/// The visits that words name, in their order: `T3`, `visit 3`, `third visit`.
fn visits(words: &str, count: usize) -> Vec<usize> {
    const NOUNS: [&str; 8] = ["visit", "image", "study", "scan", "timepoint", "time", "point", "exam"];
    const ORDINALS: [&str; 8] = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"];
    let tokens = tokens(words);
    let is_noun = |token: Option<&String>| token.is_some_and(|token| NOUNS.contains(&token.trim_end_matches('s')));
    let number = |n: usize| {
        let token = &tokens[n];
        let behind_noun = n > 0 && is_noun(tokens.get(n - 1));
        let told = match token.strip_prefix('t').map(str::parse) {
            Some(Ok(number)) => Some(number),
            _ if behind_noun => token.parse().ok(),
            _ => None,
        };
        let ordinal = || ORDINALS.iter().position(|own| own == token).filter(|_| is_noun(tokens.get(n + 1)));
        told.and_then(|number: usize| number.checked_sub(1)).or_else(ordinal)
    };
    (0..tokens.len()).filter_map(number).filter(|&visit| visit < count).collect()
}

/// The finding that words name; the longest of several.
fn finding(words: &str) -> Option<String> {
    let words = words.to_lowercase().replace(['-', '_'], " ");
    let named = prompts::FINDINGS.into_iter().filter(|name| words.contains(name));
    named.max_by_key(|name| name.len()).map(str::to_string)
}

impl Choice {
    fn of(words: &str, count: usize, of_findings: bool) -> Choice {
        let named = visits(words, count);
        let lower = tokens(words);
        let never = ["never", "none", "absent"].iter().any(|word| lower.iter().any(|token| token == word));
        match named.as_slice() {
            [] if never => Choice::Never,
            [] => match finding(words).filter(|_| of_findings) {
                Some(finding) => Choice::Finding(finding),
                None => Choice::Text(words.to_string(), named),
            },
            &[visit] => Choice::Visit(visit),
            &[first, second] if first != second => Choice::Between(first, second),
            all if (0..count).all(|visit| all.iter().filter(|&&own| own == visit).count() == 1) => Choice::Order(named),
            _ => Choice::Text(words.to_string(), named),
        }
    }
}

impl Question {
    /// Recognises from the words what is asked.
    ///
    /// * `rows`: of the corpus, in the order of the visits; `kinds`: those that the source puts it in, of which the last is read with the
    ///   question's words.
    pub fn new(
        subject: String,
        rows: Vec<usize>,
        kinds: Vec<String>,
        words: &str,
        choices: &[&str],
        answer: usize,
    ) -> Question {
        let named = finding(words);
        let asked = match (Asked::of(words), kinds.last()) {
            (Asked::Unknown, Some(kind)) => Asked::of(kind),
            (asked, _) => asked,
        };
        let all: Vec<Choice> = choices.iter().map(|own| Choice::of(own, rows.len(), named.is_none())).collect();
        // Scores of one kind compare.
        let kind = |choice: &Choice| std::mem::discriminant(choice);
        let told: Vec<&Choice> = all.iter().filter(|choice| **choice != Choice::Never).collect();
        let of_one_kind = told.first().is_some_and(|first| told.iter().all(|own| kind(own) == kind(first)));
        let needs_finding = told.iter().any(|own| matches!(own, Choice::Visit(_) | Choice::Between(..)));
        let as_words = !of_one_kind || (needs_finding && named.is_none());
        let text = |own: &&str| Choice::Text((*own).to_string(), visits(own, rows.len()));
        let choices = if as_words { choices.iter().map(text).collect() } else { all };
        Question { subject, rows, kinds, asked, finding: named, choices, answer }
    }

    /// Findings whose sentences it needs.
    pub fn findings(&self) -> impl Iterator<Item = &String> {
        let of_choice = |choice: &'_ Choice| matches!(choice, Choice::Finding(_));
        let chosen = self.choices.iter().filter(move |choice| of_choice(choice));
        let named = chosen.filter_map(|choice| if let Choice::Finding(name) = choice { Some(name) } else { None });
        self.finding.iter().filter(|_| !self.is_words()).chain(named)
    }

    /// Choices whose words are embedded.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        self.choices.iter().filter_map(|choice| if let Choice::Text(words, _) = choice { Some(words) } else { None })
    }

    fn is_words(&self) -> bool {
        self.choices.iter().any(|choice| matches!(choice, Choice::Text(..)))
    }

    /// A score for each choice.
    fn scores(&self, vectors: &QuestionVectors) -> Vec<f64> {
        let images: Vec<&[f32]> = self.rows.iter().map(|row| vectors.images[row].as_slice()).collect();
        let presence = |finding: &String| -> Vec<f64> {
            let [positive, negative] = &vectors.findings[finding];
            let (positive, negative) = (positive.unit().mean_direction(), negative.unit().mean_direction());
            images.iter().map(|image| dot(image, &positive) - dot(image, &negative)).collect()
        };
        let own = self.finding.as_ref().filter(|_| !self.is_words()).map(presence).unwrap_or_default();
        let score = |choice: &Choice| match choice {
            &Choice::Visit(visit) => at_visit(self.asked, &own, visit),
            &Choice::Between(first, second) => {
                moved(self.asked, own[second] - own[first], || 1.0 - dot(images[first], images[second]))
            }
            Choice::Order(order) => {
                -order.windows(2).map(|pair| 1.0 - dot(images[pair[0]], images[pair[1]])).sum::<f64>()
            }
            Choice::Finding(finding) => over_all(self.asked, &presence(finding)),
            Choice::Never => {
                if mean(&own) < 0.0 {
                    0.0
                } else {
                    f64::MIN
                }
            }
            Choice::Text(words, named) => {
                let all: Vec<usize> = if named.is_empty() { (0..images.len()).collect() } else { named.clone() };
                all.iter().map(|&visit| dot(images[visit], &vectors.texts[words])).sum::<f64>() / all.len() as f64
            }
        };
        self.choices.iter().map(score).collect()
    }

    /// The chance that it is answered right: choices with the highest score share it.
    fn right(&self, vectors: &QuestionVectors) -> f64 {
        let scores = self.scores(vectors);
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let tied = scores.iter().filter(|&&score| score >= most - 1e-9).count();
        if scores[self.answer] >= most - 1e-9 { 1.0 / tied as f64 } else { 0.0 }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// How much the presence rises from the visits before a visit to that visit and later ones.
fn rise(presence: &[f64], visit: usize) -> f64 {
    let (before, after) = presence.split_at(visit);
    if before.is_empty() {
        return if mean(presence) < 0.0 { f64::MIN } else { 0.0 };
    }
    let weight = (before.len() * after.len()) as f64 / presence.len() as f64;
    weight.sqrt() * (mean(after) - mean(before))
}

fn negative(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| -value).collect()
}

fn at_visit(asked: Asked, presence: &[f64], visit: usize) -> f64 {
    let step = || visit.checked_sub(1).map_or(0.0, |before| presence[visit] - presence[before]);
    match asked {
        Asked::Appears => rise(presence, visit),
        Asked::Resolves if visit == 0 => f64::MIN,
        Asked::Resolves => rise(&negative(presence), visit),
        Asked::Worst | Asked::Unknown => presence[visit],
        Asked::Mildest => -presence[visit],
        Asked::Worsens => step(),
        Asked::Improves => -step(),
        Asked::Stable if visit == 0 => f64::MIN,
        Asked::Stable => -step().abs(),
    }
}

/// Between two visits.
fn moved(asked: Asked, by: f64, distance: impl Fn() -> f64) -> f64 {
    match asked {
        Asked::Appears | Asked::Worst | Asked::Worsens => by,
        Asked::Resolves | Asked::Mildest | Asked::Improves => -by,
        Asked::Stable => -by.abs(),
        Asked::Unknown => distance(),
    }
}

/// The score of a finding over the whole series.
fn over_all(asked: Asked, presence: &[f64]) -> f64 {
    let most = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
    let largest_rise = |values: &[f64]| (1..values.len()).map(|visit| rise(values, visit)).fold(f64::MIN, f64::max);
    let moved = presence[presence.len() - 1] - presence[0];
    match asked {
        Asked::Appears => largest_rise(presence),
        Asked::Resolves => largest_rise(&negative(presence)),
        Asked::Worst => most(presence),
        Asked::Mildest => -most(presence),
        Asked::Worsens => moved,
        Asked::Improves => -moved,
        Asked::Stable => -(most(presence) + most(&negative(presence))),
        Asked::Unknown => mean(presence),
    }
}

impl SeriesQuestions<'_> {
    /// # Errors
    /// No questions.
    pub fn evaluate(&self, questions: &[Question], vectors: &QuestionVectors) -> Result<TaskResult> {
        let images = Vectors::from_rows(vectors.images.values())?;
        Input::check(&images, "images of questions")?;
        let method = "no language model: visits by the presence of the finding that the question names, orders by the path through the \
                      images, other choices by their words against the images; the highest score answers";
        let mut result = TaskResult::new(Task::SeriesQuestions, Protocol::Strict, method);
        let right: Vec<f64> = questions.iter().map(|question| question.right(vectors)).collect();
        let clusters = Clusters::of(questions.iter().map(|question| question.subject.as_str()));
        // A question belongs to the subgroups of its last visit.
        let last = questions.iter().map(|question| question.rows[question.rows.len() - 1]);
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, last);
        let kinds = questions.iter().flat_map(|question| &question.kinds);
        let mut groups: Vec<&str> = Vec::new();
        for kind in kinds {
            if !groups.contains(&kind.as_str()) {
                groups.push(kind);
            }
        }
        groups.sort_unstable();
        for group in groups.into_iter().chain(["all"]) {
            let of_group = |n: &usize| group == "all" || questions[*n].kinds.iter().any(|kind| kind == group);
            let used: Vec<usize> = (0..questions.len()).filter(of_group).collect();
            let share = |weights: &[f64]| {
                let total: f64 = used.iter().map(|&n| weights[n]).sum();
                let held: f64 = used.iter().map(|&n| weights[n] * right[n]).sum();
                (total > 0.0).then(|| held / total)
            };
            let chance = used.iter().map(|&n| 1.0 / questions[n].choices.len() as f64).sum::<f64>() / used.len() as f64;
            let figure = meter.figure_of(group, "accuracy", Unit::Share, &used, "no questions", share);
            let published = crate::eval::published::of(Task::SeriesQuestions, group, "accuracy");
            result.figures.push(Figure { published, ..figure }.with_chance(chance));
        }
        (result.rows, result.subjects) = (questions.len(), clusters.count());
        let by_words = questions.iter().filter(|question| question.is_words()).count();
        let unknown = questions.iter().filter(|own| own.asked == Asked::Unknown && !own.is_words()).count();
        for (count, what) in [
            (
                by_words,
                "questions answered by the words of their choices, because these are not all visits, all findings or all orders",
            ),
            (unknown, "questions whose type was not recognised; answered by the highest presence"),
        ] {
            if count > 0 {
                result.notes.push(format!("{count} {what}"));
            }
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISITS: [&str; 5] = ["T1", "T2", "T3", "T4", "T5"];

    fn question(words: &str, choices: &[&str], answer: usize) -> Question {
        Question::new("s".into(), (0..5).collect(), vec!["TEL".into()], words, choices, answer)
    }

    /// Images whose presence of edema is the given one.
    fn vectors(presence: [f32; 5]) -> QuestionVectors {
        let image = |(row, &own): (usize, &f32)| (row, vec![own, (1.0 - own * own).sqrt()]);
        let sentences = |x: f32| Vectors::from_rows([[x, 0.0]]).unwrap();
        QuestionVectors {
            images: presence.iter().enumerate().map(image).collect(),
            findings: [("edema".to_string(), [sentences(1.0), sentences(-1.0)])].into(),
            texts: HashMap::new(),
        }
    }

    #[test]
    fn words_tell_what_is_asked_and_what_is_chosen() {
        let own = question("At which visit does pulmonary edema first appear?", &VISITS, 2);
        assert_eq!((own.asked, own.finding.as_deref()), (Asked::Appears, Some("edema")));
        assert_eq!(own.choices[2], Choice::Visit(2));
        assert_eq!(Asked::of("Between which visits does the effusion improve most?"), Asked::Improves);
        assert_eq!(Asked::of("When was it most severe?"), Asked::Worst);
        assert_eq!(Asked::of("When did it disappear?"), Asked::Resolves);
        assert_eq!(visits("from visit 2 to the fourth study, T5 and T9", 5), [1, 3, 4]);
        let orders = question("What is the order of the images?", &["T2, T1, T3, T5, T4", "T1 → T2 → T3 → T4 → T5"], 1);
        assert_eq!(orders.choices[0], Choice::Order(vec![1, 0, 2, 4, 3]));
        let findings = question("Which finding is new at the end?", &["Edema", "Pleural effusion", "None"], 0);
        assert_eq!(findings.choices[1..], [Choice::Finding("pleural effusion".into()), Choice::Never]);
        // Visits without a finding, and choices of several kinds, are words.
        assert!(question("When did it begin?", &VISITS, 0).is_words());
        assert!(question("When did edema begin?", &["T1", "It was stable"], 0).is_words());
        assert_eq!(question("When did edema begin?", &["T1", "It was stable"], 0).findings().count(), 0);
    }

    #[test]
    fn visits_are_told_by_the_presence() {
        let vectors = vectors([-0.5, -0.4, 0.4, 0.6, 0.2]);
        for (words, answer) in [
            ("When does edema appear?", 2),
            ("When is edema worst?", 3),
            ("When is edema mildest?", 0),
            ("When does edema worsen most?", 2),
            ("When does edema improve most?", 4),
        ] {
            assert_eq!(question(words, &VISITS, answer).right(&vectors), 1.0, "{words}");
            assert_eq!(question(words, &VISITS, (answer + 1) % 5).right(&vectors), 0.0, "{words}");
        }
        let between = ["T1 to T2", "T2 to T3", "T4 to T5"];
        assert_eq!(question("Between which visits does edema improve?", &between, 2).right(&vectors), 1.0);
        // A path and its reverse are one: half of the answer is right.
        let orders = ["T1 T2 T5 T3 T4", "T4 T3 T5 T2 T1", "T3 T1 T4 T2 T5"];
        assert_eq!(question("In which order?", &orders, 0).right(&vectors), 0.5);
    }

    #[test]
    fn a_finding_that_does_not_rise_was_there_or_never_comes() {
        let choices = ["T1", "T2", "T3", "T4", "T5", "Never"];
        let falling = [0.6, 0.5, 0.4, 0.3, 0.2];
        assert_eq!(question("When does edema appear?", &choices, 0).right(&vectors(falling)), 1.0);
        assert_eq!(question("When does edema appear?", &choices, 5).right(&vectors(falling.map(|x| x - 0.9))), 1.0);
    }

    #[test]
    fn figures_are_by_kind_with_chance() {
        let vectors = vectors([-0.5, -0.4, 0.4, 0.6, 0.2]);
        let mut questions =
            vec![question("When is edema worst?", &VISITS, 3), question("When is edema worst?", &VISITS, 0)];
        questions[1].kinds = vec!["GTS".into()];
        let task = SeriesQuestions { bootstrap: Bootstrap { replicates: 10, seed: 0 }, by: &[] };
        let found = task.evaluate(&questions, &vectors).unwrap();
        assert_eq!((found.value("TEL", "accuracy"), found.value("GTS", "accuracy")), (Some(1.0), Some(0.0)));
        assert_eq!(found.value("all", "accuracy"), Some(0.5));
        assert_eq!(found.figures[0].chance, Some(0.2));
        assert_eq!(found.figures.last().unwrap().published[0].value, 0.418);
    }
}
