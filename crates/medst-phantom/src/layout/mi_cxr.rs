//! MI-CXR: questions about the first five visits, in the words of its published examples.
//!
//! | group | `qtype` | asks |
//! |---|---|---|
//! | TEL | `single_entity_emergence` | at which visit a finding emerges |
//! | TEL | `single_entity_peak` | at which visit it is worst (not of the benchmark) |
//! | TEL | `emergence_to_resolution` | at which two visits it emerges and resolves |
//! | ICR | `interval_change` | which of five statements about an interval is right |
//! | GTS | `single_entity_interval_summary` | which of five statements on all intervals is right |
//! | GTS | `multi_entity_interval_summary` | the same, about two findings |

use serde_json::json;

use super::files::Entries;
use super::on_mimic;
use crate::cohort::{DrawnPatient, Patient};
use crate::course::{Change, Course};

pub const LISTS: &[&str] = &["micxr_test.jsonl"];
const VISITS: usize = 5;

/// What happens between two visits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Worse,
    Better,
    Same,
}

/// The four steps of a series.
type Steps = [Step; VISITS - 1];

impl Step {
    fn from_change(change: Change) -> Step {
        match change {
            Change::New | Change::Worsening => Step::Worse,
            Change::Resolved | Change::Improving => Step::Better,
            Change::First | Change::Absent | Change::Stable => Step::Same,
        }
    }

    /// Another one.
    fn other(self, again: bool) -> Step {
        match (self, again) {
            (Step::Worse, false) | (Step::Same, true) => Step::Better,
            (Step::Better, false) | (Step::Same, false) => Step::Worse,
            (Step::Worse | Step::Better, true) => Step::Same,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Step::Worse => "shows interval worsening",
            Step::Better => "shows interval improvement",
            Step::Same => "is stable",
        }
    }

    fn gerund(self) -> &'static str {
        match self {
            Step::Worse => "worsening",
            Step::Better => "improving",
            Step::Same => "remaining stable",
        }
    }
}

fn steps(course: &Course) -> Steps {
    std::array::from_fn(|step| Step::from_change(course.change(step + 1)))
}

fn name(course: &Course) -> String {
    course.finding.name().replace('_', " ")
}

/// A statement about all intervals of one finding.
fn trajectory(name: &str, [first, second, third, last]: Steps) -> String {
    format!(
        "Between T1 and T2, {name} {}; it then {} from T2 to T3 and {} from T3 to T4 before {} between T4 and T5.",
        first.verb(),
        second.verb(),
        third.verb(),
        last.gerund()
    )
}

/// A statement about all intervals of two findings.
fn trajectories(names: [&str; 2], of: [Steps; 2]) -> String {
    let clause = |step: usize| {
        let (from, to) = (step + 1, step + 2);
        let [one, other] = of.map(|steps| steps[step].verb());
        format!("between T{from} and T{to}, {} {one} while {} {other}", names[0], names[1])
    };
    (0..VISITS - 1).map(clause).collect::<Vec<_>>().join("; ")
}

/// Five different courses, the right one first.
fn distractors(right: Steps) -> [Steps; 5] {
    let changed = |places: [usize; 2], again: bool| -> Steps {
        std::array::from_fn(|step| if places.contains(&step) { right[step].other(again) } else { right[step] })
    };
    [right, right.map(|step| step.other(false)), changed([0, 1], true), changed([2, 3], false), changed([1, 2], true)]
}

/// A question whose right choice is the first, and goes to the place `answer`.
fn question(
    patient: &Patient,
    about: &str,
    kind: [&str; 2],
    words: String,
    mut choices: [String; 5],
    answer: usize,
) -> (usize, String) {
    choices.swap(0, answer);
    let images: Vec<String> = (0..VISITS).map(|visit| on_mimic::path(patient, visit)).collect();
    let images: serde_json::Map<String, serde_json::Value> =
        images.into_iter().enumerate().map(|(visit, path)| (format!("T{}", visit + 1), path.into())).collect();
    let [a, b, c, d, e] = choices;
    let [group, qtype] = kind;
    let line = json!({
        "qid": format!("{}-{about}-{qtype}", patient.number), "group_type": group, "qtype": qtype, "images": images,
        "question": words, "choices": { "A": a, "B": b, "C": c, "D": d, "E": e },
        "answer": (["A", "B", "C", "D", "E"][answer]),
    });
    (0, line.to_string())
}

pub fn write(drawn: &DrawnPatient) -> Entries {
    let patient = &drawn.patient;
    let mut entries = Entries::default();
    if patient.visits.len() < VISITS {
        return entries;
    }
    let seen: Vec<&Course> = patient.courses.iter().filter(|course| !course.hidden).collect();
    for (number, course) in seen.iter().enumerate() {
        let (name, about, steps) = (name(course), course.finding.name(), steps(course));
        let answer = (patient.number as usize + number) % 5;
        let mut add = |kind: [&str; 2], words: String, choices: [String; 5], answer: usize| {
            entries.lines.push(question(patient, about, kind, words, choices, answer));
        };
        let there = |visit: usize| course.at(visit).is_some();
        let visits: [String; 5] = std::array::from_fn(|visit| format!("T{}", visit + 1));
        // Choices that are visits keep their order: the right one is swapped back to its place.
        let at = |visit: usize| {
            let mut all = visits.clone();
            all.swap(0, visit);
            all
        };
        let emerges = (1..VISITS).find(|&visit| course.change(visit) == Change::New);
        if let Some(visit) = emerges.filter(|_| !there(0)) {
            let words = format!("At which visit does {name} first emerge?");
            add(["TEL", "single_entity_emergence"], words, at(visit), visit);
        }
        let worst = (0..VISITS).max_by(|&a, &b| course.severities[a].total_cmp(&course.severities[b]));
        if let Some(visit) = worst.filter(|&visit| there(visit)) {
            add(["TEL", "single_entity_peak"], format!("At which visit is {name} worst?"), at(visit), visit);
        }
        let resolves =
            emerges.and_then(|start| (start + 1..VISITS).find(|&visit| course.change(visit) == Change::Resolved));
        if let (Some(start), Some(end)) = (emerges.filter(|_| !there(0)), resolves) {
            let pairs = [[1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]];
            let others = pairs.into_iter().filter(|pair| *pair != [start, end]);
            let all: Vec<String> =
                [[start, end]].into_iter().chain(others).map(|[a, b]| format!("T{} and T{}", a + 1, b + 1)).collect();
            let words = format!("At which visits does {name} emerge and then resolve?");
            add(["TEL", "emergence_to_resolution"], words, std::array::from_fn(|n| all[n].clone()), answer);
        }
        if steps.iter().all(|step| *step == Step::Same) {
            continue;
        }
        let said =
            |step: usize, what: Step| format!("Between T{} and T{}, {name} {}.", step + 1, step + 2, what.verb());
        // One right statement about the first interval with a change, and four wrong ones.
        let first = steps.iter().position(|step| *step != Step::Same).unwrap_or(0);
        let wrong = (0..4).map(|step| said(step, steps[step].other(step % 2 == 0)));
        let all: Vec<String> = [said(first, steps[first])].into_iter().chain(wrong).collect();
        let words = format!("Which statement about the change of {name} between consecutive visits is correct?");
        add(["ICR", "interval_change"], words, std::array::from_fn(|n| all[n].clone()), answer);
        let words = format!(
            "Which statement best describes the interval-based temporal changes of {name} across the study sequence?"
        );
        let choices = distractors(steps).map(|steps| trajectory(&name, steps));
        add(["GTS", "single_entity_interval_summary"], words, choices, answer);
    }
    if let [one, other, ..] = seen.as_slice() {
        let of = [steps(one), steps(other)];
        let names = [name(one), name(other)];
        let names = [names[0].as_str(), names[1].as_str()];
        let choices = distractors(of[0]).map(|first| trajectories(names, [first, of[1]]));
        let words = "Which statement correctly describes the interval-based trajectory of abnormality across the study sequence?".to_string();
        let (kind, answer) = (["GTS", "multi_entity_interval_summary"], patient.number as usize % 5);
        entries.lines.push(question(patient, "several", kind, words, choices, answer));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_five_statements_is_right() {
        for steps in [
            [Step::Worse, Step::Same, Step::Better, Step::Same],
            [Step::Same, Step::Same, Step::Same, Step::Worse],
            [Step::Better, Step::Better, Step::Better, Step::Better],
        ] {
            let all = distractors(steps);
            for (place, one) in all.iter().enumerate() {
                assert!(all[..place].iter().all(|other| other != one), "{place}");
            }
        }
        let words = trajectory("edema", [Step::Worse, Step::Same, Step::Better, Step::Same]);
        assert!(
            words.starts_with("Between T1 and T2, edema shows interval worsening; it then is stable from T2"),
            "{words}"
        );
    }
}
