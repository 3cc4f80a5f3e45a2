//! From sections to plain sentences.
//!
//! The rules are the reference's (its MIMIC-CXR dataset, after MGCA): impression, a space, findings; sentences split at
//! numbered points and full stops; lower case; word characters only; non-ASCII characters dropped; sentences of one token
//! and reports of fewer than three are left out.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::sections::{choose, exception, has_headers};
use crate::study::StudyId;

static POINT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[0-9]+\.").expect("a valid expression"));

/// Reports with fewer tokens say nothing that a model could learn.
const FEWEST_TOKENS: usize = 3;

/// Why a report gives no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    Empty,
    /// There are sections, but none says what was seen.
    NoReading,
    TooShort,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::Empty => "report is empty",
            Rejection::NoReading => "report has neither impression nor findings",
            Rejection::TooShort => "report has fewer than three words",
        })
    }
}

/// The text a model reads of a report: the cleaned impression and findings.
///
/// Where the reference drops a report that has neither section, this takes the last paragraph instead, and the whole text
/// where there is no header at all, so that plain notes of a table are usable. A report with headers never falls back to
/// its whole text: its indication says what was asked, not what was seen. A per-study exception wins over all, also where
/// it says that the study has no reading.
///
/// # Errors
/// Why nothing is left; meant to be counted.
pub fn prepare(report: &str, study: Option<&StudyId>) -> Result<String, Rejection> {
    if report.trim().is_empty() {
        return Err(Rejection::Empty);
    }
    if let Some(text) = study.and_then(|study| exception(report, study)) {
        return if text.is_empty() { Err(Rejection::NoReading) } else { sentences(&text).ok_or(Rejection::TooShort) };
    }
    // Headers follow a line break; a report that begins with one has none before it.
    let report = format!("\n {}", report.trim_start());
    let chosen = choose(&report);
    let reading = join(chosen.impression, chosen.findings).or(chosen.last_paragraph);
    if !has_headers(&report) {
        return reading.and_then(|text| sentences(&text)).or_else(|| sentences(&report)).ok_or(Rejection::TooShort);
    }
    sentences(&reading.ok_or(Rejection::NoReading)?).ok_or(Rejection::TooShort)
}

/// The text a model reads of sections that somebody has cut already, such as those of a sectioned MIMIC-CXR table.
///
/// # Errors
/// Why nothing is left; meant to be counted.
pub fn of_sections(
    impression: Option<&str>,
    findings: Option<&str>,
    last_paragraph: Option<&str>,
) -> Result<String, Rejection> {
    let own = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_string);
    let reading = join(own(impression), own(findings)).or(own(last_paragraph)).ok_or(Rejection::NoReading)?;
    sentences(&reading).ok_or(Rejection::TooShort)
}

/// The reference's content of a report, on one line: `None` where it drops the report.
pub fn reference_content(report: &str) -> Option<String> {
    let chosen = choose(report);
    join(chosen.impression, chosen.findings).and_then(|text| sentences(&text)).map(|lines| lines.replace('\n', " "))
}

/// A sentence that is compared with reports (a prompt, a query), in the words that a model reads of them.
pub fn query(text: &str) -> String {
    let lower = text.to_lowercase();
    let tokens = lower.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let ascii = tokens.map(|token| token.chars().filter(char::is_ascii).collect::<String>());
    ascii.filter(|token| !token.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Impression, a space, findings; `None` when there is neither.
fn join(impression: Option<String>, findings: Option<String>) -> Option<String> {
    match (impression, findings) {
        (None, None) => None,
        (impression, findings) => Some(format!("{} {}", impression.unwrap_or_default(), findings.unwrap_or_default())),
    }
}

/// Plain lower-case sentences of a text, one per line, so that training can draw some of them; `None` when fewer than three tokens
/// are left. A tokenizer reads a line break as it reads a space.
fn sentences(text: &str) -> Option<String> {
    let text = text.replace('\n', " ");
    let (mut kept, mut count) = (Vec::new(), 0);
    for sentence in POINT.split(&text).flat_map(|point| point.split('.')) {
        let lower = sentence.to_lowercase();
        let tokens: Vec<&str> =
            lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|token| !token.is_empty()).collect();
        if tokens.len() > 1 {
            let ascii = tokens.into_iter().map(|token| token.chars().filter(char::is_ascii).collect::<String>());
            let ascii: Vec<String> = ascii.filter(|token| !token.is_empty()).collect();
            count += ascii.len();
            kept.extend((!ascii.is_empty()).then(|| ascii.join(" ")));
        }
    }
    (count >= FEWEST_TOKENS).then(|| kept.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_notes_and_sectioned_reports_are_both_read() {
        let plain = prepare("Severe ARDS. Person is intubated with an OG in place.", None);
        assert_eq!(plain.as_deref(), Ok("severe ards person is intubated with an og in place"));
        let sectioned = prepare("FINDINGS: 1. Heart is normal. Ok.\n IMPRESSION: No acute process.", None);
        assert_eq!(sectioned.as_deref(), Ok("no acute process heart is normal"));
    }

    #[test]
    fn a_query_has_the_words_of_a_report() {
        let text = "There is no left-sided pneumothorax.";
        assert_eq!(query(text), prepare(text, None).unwrap());
        assert_eq!(query("Edema?"), "edema");
    }

    #[test]
    fn what_is_empty_or_too_short_is_rejected_with_a_reason() {
        assert_eq!(prepare(" \n ", None), Err(Rejection::Empty));
        assert_eq!(prepare("Normal chest.", None), Err(Rejection::TooShort));
        assert_eq!(prepare("... 12. ???", None), Err(Rejection::TooShort));
    }

    #[test]
    fn what_was_asked_is_never_taken_for_what_was_seen() {
        let indication = "INDICATION: Rule out pneumonia and effusion.\n";
        assert_eq!(prepare(indication, None), Err(Rejection::NoReading));
        assert_eq!(prepare(&format!("{indication} IMPRESSION: Normal.\n"), None), Err(Rejection::TooShort));
        // The table says of this study that it has no reading.
        let study = StudyId("s58235663".into());
        let report = format!("{indication} FINDINGS: The lungs are clear.\n");
        assert_eq!(prepare(&report, Some(&study)), Err(Rejection::NoReading));
        assert_eq!(prepare(&report, None).as_deref(), Ok("the lungs are clear"));
    }

    proptest! {
        #[test]
        fn any_text_gives_clean_words_or_a_reason(report in "(\\PC|\n| |\\.|[A-Z]{2,9}: ){0,80}") {
            if let Ok(text) = prepare(&report, None) {
                prop_assert!(text.split(' ').count() >= FEWEST_TOKENS);
                prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b' '));
            }
        }
    }
}
