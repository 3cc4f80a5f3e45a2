//! Questions about series of images with a few choices (MI-CXR), answered by the embeddings of the
//! series: no language model reads the question. What it asks and what its choices are is
//! recognised from its words ([`QuestionKind`], [`Choice`], [`series_words`]); each choice then gets
//! a score, and the highest one is the answer.
//!
//! With `s_v` the presence of the finding at visit `v` (cosine to sentences that state it minus
//! cosine to sentences that deny it), and `z` a difference of presences divided by the root mean
//! square of the steps from visit to visit:
//!
//! * The choices are visits `v`:
//!   * where is it worst, mildest: `s_v`, `−s_v`;
//!   * where does it appear, resolve: the rise (fall) there, `√(v(n−v)/n)` times the mean of `s`
//!     from `v` on less that before;
//!   * where does it recur: the fall to the visit before `v`, from the highest one earlier, plus
//!     the step to `v`;
//!   * where does it worsen, improve, stay: `s_v − s_(v−1)`, its negative, its negative size.
//! * The choices are pairs of visits:
//!   * the same questions: `s` at the second less that at the first, its negative, its negative
//!     size;
//!   * where does it appear and resolve: the rise at the first plus the fall at the second.
//! * The choices are findings:
//!   * at a visit, between two visits: the same, of each finding; the mean of several;
//!   * over the series: the largest rise, fall, value; last less first.
//! * Statements, such as “worse from T1 to T2, then stable”: the mean over the stated changes, `z`
//!   for more, `−z` for less, `1 − |z|` for no change.
//! * Orders of the visits: minus the length of the path through the images.
//! * Anything else: cosine of the choice's words to the mean image of the visits that it names, or
//!   of all.
//!
//! "Never" and the first visit have no rise: the first visit scores 0 where the mean presence is
//! above 0, "never" where it is below.

use std::collections::{BTreeMap, HashMap};

use super::series_words::{self, Change, StatedChange};
use super::{Input, dot};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::result::{Figure, Meter, Protocol, Task, TaskResult, Unit};
use crate::eval::subgroups::{SMALL, Subgroups};
use crate::stats::bootstrap::{Bootstrap, Clusters};

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeriesQuestions<'a> {
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// The kind of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    Appears,
    Resolves,
    /// Two visits: where it appears, and where it resolves again.
    AppearsAndResolves,
    Recurs,
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
    Findings(Vec<String>),
    /// Changes between visits.
    Statement(Vec<StatedChange>),
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
    /// The kinds that the source puts it in, as the source calls them.
    pub source_kinds: Vec<String>,
    pub kind: QuestionKind,
    pub finding: Option<String>,
    /// The visits that the question names.
    pub at: Vec<usize>,
    pub choices: Vec<Choice>,
    /// Why the choices are compared by their words.
    pub unread: Option<&'static str>,
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

impl QuestionKind {
    /// From the words of a question.
    pub fn from_words(words: &str) -> QuestionKind {
        const STEMS: [(QuestionKind, &[&str]); 8] = [
            (QuestionKind::Recurs, &["recur", "reappear", "reemerg"]),
            (QuestionKind::Resolves, &["resol", "disappear", "clear", "gone", "vanish"]),
            (QuestionKind::Improves, &["improv", "decreas", "better", "regress"]),
            (QuestionKind::Worsens, &["worsen", "increas", "progress", "deteriorat"]),
            (QuestionKind::Stable, &["stable", "unchanged", "constant", "persist"]),
            (QuestionKind::Appears, &["appear", "onset", "emerg", "new", "develop", "first"]),
            (QuestionKind::Mildest, &["mild", "least", "lowest", "smallest", "minim"]),
            (QuestionKind::Worst, &["worst", "sever", "peak", "greatest", "largest", "highest", "maxim", "most"]),
        ];
        let words = series_words::plain(words);
        let tells = |stems: &[&str]| words.iter().any(|word| stems.iter().any(|stem| word.starts_with(stem)));
        let all: Vec<QuestionKind> = STEMS.iter().filter(|(_, stems)| tells(stems)).map(|(kind, _)| *kind).collect();
        match all.first() {
            Some(QuestionKind::Resolves) if all.contains(&QuestionKind::Appears) => QuestionKind::AppearsAndResolves,
            first => first.copied().unwrap_or(QuestionKind::Unknown),
        }
    }
}

impl Choice {
    /// * `at`: the visits that the question names; `finding`: the one it names.
    fn from_words(words: &str, count: usize, at: &[usize], finding: Option<&String>) -> Choice {
        let stated = series_words::statement(words, count);
        if !stated.is_empty() {
            return Choice::Statement(stated);
        }
        let named = series_words::visits(words, count);
        let lower = series_words::plain(words);
        let never = ["never", "none", "absent"].iter().any(|word| lower.iter().any(|token| token == word));
        match named.as_slice() {
            [] if never => Choice::Never,
            [] => {
                let (findings, changes) = (series_words::findings(words), series_words::changes(words));
                match (findings.is_empty(), changes.is_empty()) {
                    // `worsened`: the question states when.
                    (_, false) => {
                        let (from, to) = interval(at, count);
                        let stated = |(finding, change)| StatedChange { finding, from, to, change };
                        Choice::Statement(changes.into_iter().map(stated).collect())
                    }
                    (false, true) if finding.is_none() => Choice::Findings(findings),
                    _ => Choice::Text(words.to_string(), named),
                }
            }
            &[visit] => Choice::Visit(visit),
            &[first, second] if first != second => Choice::Between(first, second),
            all if (0..count).all(|visit| all.iter().filter(|&&named| named == visit).count() == 1) => {
                Choice::Order(named)
            }
            _ => Choice::Text(words.to_string(), named),
        }
    }
}

/// The interval that a question is about: between the visits that it names, or of the whole series.
fn interval(at: &[usize], count: usize) -> (usize, usize) {
    match (at.first(), at.last()) {
        (Some(&first), Some(&last)) if first < last => (first, last),
        (Some(&only), _) if only > 0 => (only - 1, only),
        _ => (0, count - 1),
    }
}

impl Question {
    /// Recognises from the words what is asked.
    ///
    /// * `rows`: of the corpus, in the order of the visits; `source_kinds`: those that the source
    ///   puts it in, of which the last is read with the question's words.
    pub fn new(
        subject: String,
        rows: Vec<usize>,
        source_kinds: Vec<String>,
        words: &str,
        choices: &[&str],
        answer: usize,
    ) -> Question {
        let (finding, at) = (series_words::subject(words), series_words::visits(words, rows.len()));
        let kind = match (QuestionKind::from_words(words), source_kinds.last()) {
            (QuestionKind::Unknown, Some(kind)) => QuestionKind::from_words(kind),
            (kind, _) => kind,
        };
        let all: Vec<Choice> =
            choices.iter().map(|choice| Choice::from_words(choice, rows.len(), &at, finding.as_ref())).collect();
        // Scores of one kind compare.
        let variant = |choice: &Choice| std::mem::discriminant(choice);
        let stated: Vec<&Choice> = all.iter().filter(|choice| **choice != Choice::Never).collect();
        let of_one_kind =
            stated.first().is_some_and(|first| stated.iter().all(|choice| variant(choice) == variant(first)));
        let of_words = stated.first().is_some_and(|choice| matches!(choice, Choice::Text(..)));
        let needs_finding = stated.iter().any(|choice| matches!(choice, Choice::Visit(_) | Choice::Between(..)));
        let unread = match () {
            () if !of_one_kind => Some("they are of several kinds"),
            () if of_words => Some("they name no visits, findings, orders or changes"),
            () if needs_finding && finding.is_none() => Some("they are visits, and the question names no finding"),
            () => None,
        };
        let text = |words: &&str| Choice::Text((*words).to_string(), series_words::visits(words, rows.len()));
        let choices = if unread.is_some() { choices.iter().map(text).collect() } else { all };
        Question { subject, rows, source_kinds, kind, finding, at, choices, unread, answer }
    }

    /// Findings whose sentences it needs.
    pub fn findings(&self) -> impl Iterator<Item = &String> {
        static GENERAL: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| series_words::ABNORMALITY.to_string());
        let mut all: Vec<&String> = Vec::new();
        if self.unread.is_none() {
            all.extend(&self.finding);
            for choice in &self.choices {
                match choice {
                    Choice::Findings(findings) => all.extend(findings),
                    Choice::Statement(changes) => {
                        for change in changes {
                            all.push(change.finding.as_ref().or(self.finding.as_ref()).unwrap_or(&GENERAL));
                        }
                    }
                    _ => {}
                }
            }
        }
        all.into_iter()
    }

    /// Choices whose words are embedded.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        self.choices.iter().filter_map(|choice| if let Choice::Text(words, _) = choice { Some(words) } else { None })
    }

    /// A score for each choice.
    fn scores(&self, vectors: &QuestionVectors) -> Vec<f64> {
        let images: Vec<&[f32]> = self.rows.iter().map(|row| vectors.images[row].as_slice()).collect();
        let presence = |finding: &String| -> Vec<f64> {
            let [positive, negative] = &vectors.findings[finding];
            let (positive, negative) = (positive.unit().mean_direction(), negative.unit().mean_direction());
            images.iter().map(|image| dot(image, &positive) - dot(image, &negative)).collect()
        };
        let asked_presence = self.finding.as_ref().filter(|_| self.unread.is_none()).map(presence).unwrap_or_default();
        let general = series_words::ABNORMALITY.to_string();
        let score = |choice: &Choice| match choice {
            &Choice::Visit(visit) => at_visit(self.kind, &asked_presence, visit),
            &Choice::Between(first, second) => match self.kind {
                QuestionKind::AppearsAndResolves => step(&asked_presence, first) - step(&asked_presence, second),
                kind => {
                    let by = asked_presence[second] - asked_presence[first];
                    moved(kind, by, || 1.0 - dot(images[first], images[second]))
                }
            },
            Choice::Statement(changes) => {
                let agreement = |change: &StatedChange| {
                    let finding = change.finding.as_ref().or(self.finding.as_ref()).unwrap_or(&general);
                    agreement(&presence(finding), change)
                };
                changes.iter().map(agreement).sum::<f64>() / changes.len() as f64
            }
            Choice::Order(order) => {
                -order.windows(2).map(|pair| 1.0 - dot(images[pair[0]], images[pair[1]])).sum::<f64>()
            }
            Choice::Findings(findings) => {
                let score = |finding: &String| {
                    let presence = presence(finding);
                    match *self.at.as_slice() {
                        [visit] => at_visit(self.kind, &presence, visit),
                        [first, second] if first < second => {
                            moved(self.kind, presence[second] - presence[first], || mean(&presence))
                        }
                        _ => over_all(self.kind, &presence),
                    }
                };
                findings.iter().map(score).sum::<f64>() / findings.len() as f64
            }
            Choice::Never => {
                if mean(&asked_presence) < 0.0 {
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

/// How much more there is at a visit than at the one before.
fn step(presence: &[f64], visit: usize) -> f64 {
    visit.checked_sub(1).map_or(0.0, |before| presence[visit] - presence[before])
}

/// How well the presence agrees with a statement: changes in units of the usual step
/// from visit to visit, so that half a step either way is as likely a change as none.
fn agreement(presence: &[f64], stated: &StatedChange) -> f64 {
    let steps = presence.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>();
    let usual = (steps / (presence.len().max(2) - 1) as f64).sqrt();
    let moved = (presence[stated.to] - presence[stated.from]) / usual.max(1e-12);
    match stated.change {
        Change::More => moved,
        Change::Less => -moved,
        Change::Same => 1.0 - moved.abs(),
    }
}

fn at_visit(kind: QuestionKind, presence: &[f64], visit: usize) -> f64 {
    let step = || step(presence, visit);
    match kind {
        QuestionKind::Appears => rise(presence, visit),
        QuestionKind::Resolves if visit == 0 => f64::MIN,
        QuestionKind::Resolves | QuestionKind::AppearsAndResolves => rise(&negative(presence), visit),
        // There must have been one visit with it and one without before.
        QuestionKind::Recurs if visit < 2 => f64::MIN,
        QuestionKind::Recurs => {
            let earlier = presence[..visit - 1].iter().copied().fold(f64::MIN, f64::max);
            earlier - presence[visit - 1] + step()
        }
        QuestionKind::Worst | QuestionKind::Unknown => presence[visit],
        QuestionKind::Mildest => -presence[visit],
        QuestionKind::Worsens => step(),
        QuestionKind::Improves => -step(),
        QuestionKind::Stable if visit == 0 => f64::MIN,
        QuestionKind::Stable => -step().abs(),
    }
}

/// Between two visits.
fn moved(kind: QuestionKind, by: f64, distance: impl Fn() -> f64) -> f64 {
    match kind {
        QuestionKind::Appears | QuestionKind::Recurs | QuestionKind::Worst | QuestionKind::Worsens => by,
        QuestionKind::Resolves | QuestionKind::AppearsAndResolves | QuestionKind::Mildest | QuestionKind::Improves => {
            -by
        }
        QuestionKind::Stable => -by.abs(),
        QuestionKind::Unknown => distance(),
    }
}

/// The score of a finding over the whole series.
fn over_all(kind: QuestionKind, presence: &[f64]) -> f64 {
    let most = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
    let largest_rise = |values: &[f64]| (1..values.len()).map(|visit| rise(values, visit)).fold(f64::MIN, f64::max);
    let moved = presence[presence.len() - 1] - presence[0];
    match kind {
        QuestionKind::Appears | QuestionKind::Recurs => largest_rise(presence),
        QuestionKind::Resolves | QuestionKind::AppearsAndResolves => largest_rise(&negative(presence)),
        QuestionKind::Worst => most(presence),
        QuestionKind::Mildest => -most(presence),
        QuestionKind::Worsens => moved,
        QuestionKind::Improves => -moved,
        QuestionKind::Stable => -(most(presence) + most(&negative(presence))),
        QuestionKind::Unknown => mean(presence),
    }
}

impl SeriesQuestions<'_> {
    /// # Errors
    /// No questions.
    pub fn evaluate(&self, questions: &[Question], vectors: &QuestionVectors) -> Result<TaskResult> {
        let images = Vectors::from_rows(vectors.images.values())?;
        Input::check(&images, "images of questions")?;
        let method = "no language model: visits and statements by the presence of the finding that the question or the statement names, \
                      orders by the path through the images, other choices by their words against the images; the highest score answers";
        let mut result = TaskResult::new(Task::SeriesQuestions, Protocol::Strict, method);
        let right: Vec<f64> = questions.iter().map(|question| question.right(vectors)).collect();
        let clusters = Clusters::new(questions.iter().map(|question| question.subject.as_str()));
        // A question belongs to the subgroups of its last visit.
        let last = questions.iter().map(|question| question.rows[question.rows.len() - 1]);
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, last);
        let kinds = questions.iter().flat_map(|question| &question.source_kinds);
        let mut groups: Vec<&str> = Vec::new();
        for kind in kinds {
            if !groups.contains(&kind.as_str()) {
                groups.push(kind);
            }
        }
        groups.sort_unstable();
        let mut small = Vec::new();
        for group in groups.into_iter().chain(["all"]) {
            let of_group = |n: &usize| group == "all" || questions[*n].source_kinds.iter().any(|kind| kind == group);
            let used: Vec<usize> = (0..questions.len()).filter(of_group).collect();
            let share = |weights: &[f64]| {
                let total: f64 = used.iter().map(|&n| weights[n]).sum();
                let held: f64 = used.iter().map(|&n| weights[n] * right[n]).sum();
                (total > 0.0).then(|| held / total)
            };
            if clusters.count_among(&used) < SMALL {
                small.push(format!("{group} ({})", used.len()));
            }
            let chance = used.iter().map(|&n| 1.0 / questions[n].choices.len() as f64).sum::<f64>() / used.len() as f64;
            let figure = meter.figure_of(group, "accuracy", Unit::Share, &used, "no questions", &share);
            let published = crate::eval::published::values(Task::SeriesQuestions, group, "accuracy");
            result.figures.push(Figure { published, ..figure }.with_chance(chance));
        }
        (result.rows, result.subjects) = (questions.len(), clusters.count());
        // If the type is not recognised, visits are compared by presence, and two visits by their
        // images.
        let is_vague = |question: &&Question| {
            question.kind == QuestionKind::Unknown
                && question.unread.is_none()
                && !question.choices.iter().any(|choice| matches!(choice, Choice::Order(_) | Choice::Statement(_)))
        };
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for question in questions {
            let kind = question.source_kinds.last().map_or("", String::as_str);
            if let Some(reason) = question.unread {
                let what = format!(
                    "questions {kind}: answered by the words of the choices against the images, because {reason}"
                );
                *counts.entry(what).or_default() += 1;
            } else if is_vague(&question) {
                let what = format!("questions {kind}: the type was not recognised; answered by the highest presence");
                *counts.entry(what).or_default() += 1;
            }
        }
        if !small.is_empty() {
            result.notes.push(format!("kinds with questions about fewer than {SMALL} subjects: {}", small.join(", ")));
        }
        result.notes.extend(counts.into_iter().map(|(what, count)| format!("{count} {what}")));
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
        let image = |(row, &x): (usize, &f32)| (row, vec![x, (1.0 - x * x).sqrt()]);
        let sentences = |x: f32| Vectors::from_rows([[x, 0.0]]).unwrap();
        QuestionVectors {
            images: presence.iter().enumerate().map(image).collect(),
            findings: [("edema".to_string(), [sentences(1.0), sentences(-1.0)])].into(),
            texts: HashMap::new(),
        }
    }

    #[test]
    fn words_tell_what_is_asked_and_what_is_chosen() {
        let appears = question("At which visit does pulmonary edema first appear?", &VISITS, 2);
        assert_eq!((appears.kind, appears.finding.as_deref()), (QuestionKind::Appears, Some("edema")));
        assert_eq!(appears.choices[2], Choice::Visit(2));
        assert_eq!(
            QuestionKind::from_words("Between which visits does the effusion improve most?"),
            QuestionKind::Improves
        );
        assert_eq!(QuestionKind::from_words("When was it most severe?"), QuestionKind::Worst);
        assert_eq!(QuestionKind::from_words("When did it disappear?"), QuestionKind::Resolves);
        assert_eq!(
            QuestionKind::from_words("When does it emerge, and when does it resolve?"),
            QuestionKind::AppearsAndResolves
        );
        assert_eq!(QuestionKind::from_words("At which visit does it recur?"), QuestionKind::Recurs);
        let orders = question("What is the order of the images?", &["T2, T1, T3, T5, T4", "T1 → T2 → T3 → T4 → T5"], 1);
        assert_eq!(orders.choices[0], Choice::Order(vec![1, 0, 2, 4, 3]));
        let findings = question("Which finding is new at the end?", &["Edema", "Pleural effusion", "None"], 0);
        assert_eq!(findings.choices[1..], [Choice::Findings(vec!["pleural effusion".into()]), Choice::Never]);
        // Visits without a finding, and choices of several kinds, are words.
        assert!(question("When did it begin?", &VISITS, 0).unread.unwrap().contains("no finding"));
        let mixed = question("When did edema begin?", &["T1", "It was stable"], 0);
        assert!(mixed.unread.unwrap().contains("several kinds"));
        assert_eq!((mixed.findings().count(), mixed.texts().count()), (0, 2));
        assert!(question("Is it edema?", &["Surely", "Hardly"], 0).unread.unwrap().contains("no visits"));
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
    fn statements_are_judged_by_the_steps_of_the_presence() {
        let vectors = vectors([-0.5, -0.4, 0.4, 0.42, -0.3]);
        let trajectories = [
            "Between T1 and T2, edema is stable; it then shows interval worsening from T2 to T3 and is stable from T3 to T4 before \
             improving between T4 and T5.",
            "Between T1 and T2, edema worsens; it then improves from T2 to T3 and from T3 to T4 before worsening between T4 and T5.",
            "Edema is stable from T1 to T5.",
            "Edema worsens from T1 to T5.",
        ];
        let which =
            "Which statement best describes the interval-based temporal changes of edema across the study sequence?";
        assert_eq!(question(which, &trajectories, 0).right(&vectors), 1.0);
        let events = ["It emerges at T2 and resolves at T4", "It emerges at T3 and resolves at T5", "It emerges at T4"];
        assert_eq!(question("Which statement about edema is true?", &events, 1).right(&vectors), 1.0);
        // The question states when, or its type states the change.
        let changes = ["Improved", "Unchanged", "Worsened"];
        for (interval, answer) in [("T2 and T3", 2), ("T3 and T4", 1), ("T4 and T5", 0)] {
            let words = format!("How did edema change between {interval}?");
            assert_eq!(question(&words, &changes, answer).right(&vectors), 1.0, "{words}");
        }
        let pairs = ["T2 and T4", "T3 and T5", "T4 and T5"];
        let words = "At which visits does edema emerge and then resolve?";
        assert_eq!(question(words, &pairs, 1).right(&vectors), 1.0);
    }

    #[test]
    fn a_finding_that_recurs_was_gone_before() {
        let vectors = vectors([0.5, -0.4, 0.4, 0.3, -0.3]);
        assert_eq!(question("At which visit does edema recur?", &VISITS, 2).right(&vectors), 1.0);
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
        questions[1].source_kinds = vec!["GTS".into()];
        questions.push(question("Is it edema?", &["T1", "Surely"], 0));
        let words = |text: &str| (text.to_string(), vec![1.0, 0.0]);
        let vectors = QuestionVectors { texts: [words("T1"), words("Surely")].into(), ..vectors };
        let task = SeriesQuestions { bootstrap: Bootstrap { replicates: 10, seed: 0 }, by: &[] };
        let found = task.evaluate(&questions, &vectors).unwrap();
        assert_eq!((found.value("TEL", "accuracy"), found.value("GTS", "accuracy")), (Some(0.5), Some(0.0)));
        assert_eq!(found.value("all", "accuracy"), Some(1.0 / 3.0));
        assert_eq!(found.figures[0].chance, Some(0.2));
        assert_eq!(found.notes[0], "kinds with questions about fewer than 20 subjects: GTS (1), TEL (2), all (3)");
        assert!(
            found.notes[1].starts_with("1 questions TEL: answered by the words of the choices"),
            "{:?}",
            found.notes
        );
        assert_eq!(found.figures.last().unwrap().published[0].value, 0.418);
    }
}
