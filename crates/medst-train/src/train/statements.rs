//! Statements made from a study's labels, which training may use in place of its report
//! (`data.statements`).
//!
//! A report rarely states one thing in few words, and it describes change in many wordings. Labels
//! are short: a finding that is present or absent, the phrase of a box, the course of a finding
//! since the visit before (`edema_progression`, as in MS-CXR-T). As captions made from class names
//! do for CLIP (Radford et al., ICML 2021), they teach the words that prompts and phrases are made
//! of. The sentences differ from those that evaluations use ([`crate::labels::prompts`]).

use medst_data::boxes::{self, Boxes};
use medst_data::study::Study;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::truth::{self, Statement};
use crate::labels::Course;

const PRESENT: [&str; 5] = ["{}", "There is {}", "{} is present", "Findings of {}", "{} is seen on this study"];
const ABSENT: [&str; 4] = ["no {}", "{} is not seen", "without {}", "No {} on this study"];
const IMPROVING: [&str; 8] = [
    "improved {}",
    "{} has improved",
    "improvement of {} since the prior study",
    "decreased {}",
    "decrease in {} compared to prior",
    "{} is smaller",
    "smaller {} than before",
    "improving {}",
];
const STABLE: [&str; 6] = [
    "stable {}",
    "{} is stable",
    "unchanged {}",
    "no change in {} since the prior study",
    "{} persists",
    "{} without change compared to prior",
];
const WORSENING: [&str; 8] = [
    "worsened {}",
    "{} has worsened",
    "worsening of {} since the prior study",
    "increased {}",
    "increase in {} compared to prior",
    "{} is larger",
    "larger {} than before",
    "worsening {}",
];

/// Draws a statement about one of the `findings`: as often about a box, a course and whether a
/// finding is there, where these are known. `None` where nothing is.
pub fn draw(study: &Study, findings: &[String], random: &mut impl Rng) -> Option<Statement> {
    let mut kinds: Vec<Vec<Statement>> = Vec::new();
    let say = |template: &str, finding: usize| Statement {
        text: template.replace("{}", &findings[finding]),
        phrase: None,
        course: None,
    };
    if let Some(boxes) = study.labels.get(boxes::LABEL).and_then(|label| Boxes::parse(label).ok()) {
        let phrases = boxes.regions.into_iter().map(|region| Statement {
            text: region.phrase.clone(),
            phrase: Some(region.phrase),
            course: None,
        });
        kinds.push(phrases.collect());
    }
    let courses = truth::courses(study, findings).into_iter().enumerate().filter_map(|(finding, course)| {
        let course = course?;
        let templates: &[&str] = match course {
            Course::Improving => &IMPROVING,
            Course::Stable => &STABLE,
            Course::Worsening => &WORSENING,
        };
        let template = templates.choose(random)?;
        Some(Statement { course: Some((finding, course)), ..say(template, finding) })
    });
    kinds.push(courses.collect());
    let labels = truth::labels(study, findings);
    let of_label = |value: f32, templates: &[&str], random: &mut _| -> Vec<Statement> {
        let named = labels.iter().enumerate().filter(|(_, label)| **label == value);
        named.filter_map(|(finding, _)| templates.choose(random).map(|template| say(template, finding))).collect()
    };
    // Present findings are more informative than absent ones, which most studies have in common.
    let (present, absent) = (of_label(1.0, &PRESENT, random), of_label(0.0, &ABSENT, random));
    kinds.push(if present.is_empty() || random.random_bool(0.3) { absent } else { present });
    kinds.retain(|kind| !kind.is_empty());
    kinds.choose(random)?.choose(random).cloned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::truth::tests::study;
    use super::*;
    use crate::labels::prompts;

    fn texts(labels: &[(&str, &str)]) -> BTreeSet<String> {
        let findings = ["edema", "pleural effusion"].map(String::from);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        (0..400).filter_map(|_| draw(&study(labels), &findings, &mut random)).map(|statement| statement.text).collect()
    }

    #[test]
    fn only_what_labels_say_is_said() {
        assert_eq!(texts(&[("age", "61")]).len(), 0);
        let absent = texts(&[("edema", "0")]);
        assert_eq!(absent, ABSENT.iter().map(|template| template.replace("{}", "edema")).collect());
        let worse = texts(&[("edema", "1"), ("edema_progression", "worsening"), ("pleural_effusion", "")]);
        let expected = PRESENT.iter().chain(&WORSENING).map(|template| template.replace("{}", "edema")).collect();
        assert_eq!(worse, expected);
    }

    #[test]
    fn a_box_is_named_by_its_phrase() {
        let label = r#"{"width":8,"height":8,"regions":[{"phrase":"left pleural effusion","left":4,"top":0,"right":8,"bottom":2}]}"#;
        let findings = ["pleural effusion".to_string()];
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let drawn = draw(&study(&[("boxes", label)]), &findings, &mut random).unwrap();
        assert_eq!(
            (drawn.text.as_str(), drawn.phrase.as_deref()),
            ("left pleural effusion", Some("left pleural effusion"))
        );
    }

    /// Otherwise a figure would be of sentences that were trained on.
    #[test]
    fn evaluations_use_other_sentences() {
        let asked = [prompts::positive, prompts::negative, prompts::improving, prompts::worsening];
        let asked: BTreeSet<String> =
            asked.iter().flat_map(|make| make("edema")).map(|statement| statement.to_lowercase()).collect();
        let said = PRESENT.iter().chain(&ABSENT).chain(&IMPROVING).chain(&STABLE).chain(&WORSENING);
        for statement in said.map(|statement| statement.replace("{}", "edema").to_lowercase()) {
            assert!(!asked.contains(&statement), "{statement}");
        }
    }
}
