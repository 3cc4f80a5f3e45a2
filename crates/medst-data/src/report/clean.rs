//! From sections to plain sentences.
//!
//! Impression, a space, findings; lower case; word characters only; non-ASCII characters dropped;
//! sentences of one token and reports of fewer than three are left out. How sentences end, and
//! which headers there are, depends on the [`Rule`].

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::headers;
use super::sections::{choose, exception, has_headers};
use crate::study::StudyId;

/// How a report becomes plain sentences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Headers as any hospital writes them (`super::headers`; MIMIC-CXR's own files by its own
    /// rules), and numbers stay whole: `1.5 cm` is `1.5 cm`.
    #[default]
    Standard,
    /// The reference's (its MIMIC-CXR dataset, after MGCA): MIMIC-CXR's headers only, sentences end
    /// at every full stop, and numbers before one are dropped: `1.5 cm` is `5 cm`.
    Reference,
}

impl Rule {
    pub const ALL: [Rule; 2] = [Rule::Standard, Rule::Reference];

    /// The rule of a name, if there is one.
    pub fn parse(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// The only rule there was when corpora did not name it.
    pub(crate) fn of_old() -> Rule {
        Rule::Reference
    }

    pub fn name(self) -> &'static str {
        match self {
            Rule::Standard => "standard",
            Rule::Reference => "reference",
        }
    }
}

/// Tags and entities of HTML.
static MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"</?[A-Za-z][^<>]{0,80}>|&(?:[A-Za-z]{2,8}|#[0-9]{1,5});|\\[rn]").expect("a valid expression")
});

static POINT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[0-9]+\.").expect("a valid expression"));

/// Reports with fewer tokens contain nothing that a model could learn.
const FEWEST_TOKENS: usize = 3;

/// Why a report gives no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    Empty,
    /// The report has sections, but none with findings or an impression.
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
/// If the report has neither, the last section after its first paragraph is taken. If it has no
/// header at all, the whole text is taken, so that plain notes in a table are usable. A report with
/// headers never falls back to its whole text, because the indication contains the question, not
/// the findings. An exception of MIMIC-CXR for a single study overrides all of this, even if it
/// marks the study as unread.
///
/// # Errors
/// The reason why nothing is left, for counting.
pub fn prepare(report: &str, study: Option<&StudyId>, rule: Rule) -> Result<String, Rejection> {
    if rule == Rule::Reference {
        return prepare_mimic_cxr(report, study, rule);
    }
    if report.trim().is_empty() {
        return Err(Rejection::Empty);
    }
    if let Some(exceptional) = exceptional(report, study, rule) {
        return exceptional;
    }
    let found = headers::readings(report);
    if !found.has_headers {
        return sentences(report, rule).ok_or(Rejection::TooShort);
    }
    let join_all = |parts: &[Range<usize>]| {
        let parts: Vec<&str> = parts.iter().map(|part| report[part.clone()].trim()).collect();
        // Sections end sentences, whether they are written so or not.
        (!parts.is_empty()).then(|| parts.join(". "))
    };
    let reading = join(join_all(&found.impression), join_all(&found.findings));
    let reading = reading.or_else(|| found.last_paragraph.map(|part| report[part].to_string()));
    sentences(&reading.ok_or(Rejection::NoReading)?, rule).ok_or(Rejection::TooShort)
}

/// Like [`prepare`], for a file of MIMIC-CXR: headers are found by MIMIC-CXR's rules, whichever
/// rule is used for sentences.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_mimic_cxr(report: &str, study: Option<&StudyId>, rule: Rule) -> Result<String, Rejection> {
    if report.trim().is_empty() {
        return Err(Rejection::Empty);
    }
    if let Some(exceptional) = exceptional(report, study, rule) {
        return exceptional;
    }
    // Headers follow a line break; a report that begins with one has none before it.
    let report = format!("\n {}", report.trim_start().replace("\r\n", "\n"));
    let chosen = choose(&report);
    let reading = join(chosen.impression, chosen.findings).or(chosen.last_paragraph);
    if !has_headers(&report) {
        let paragraph = reading.and_then(|text| sentences(&text, rule));
        return paragraph.or_else(|| sentences(&report, rule)).ok_or(Rejection::TooShort);
    }
    sentences(&reading.ok_or(Rejection::NoReading)?, rule).ok_or(Rejection::TooShort)
}

/// The result of a MIMIC-CXR study's exception.
fn exceptional(report: &str, study: Option<&StudyId>, rule: Rule) -> Option<Result<String, Rejection>> {
    let text = exception(report, study?)?;
    Some(if text.is_empty() { Err(Rejection::NoReading) } else { sentences(&text, rule).ok_or(Rejection::TooShort) })
}

/// The text a model reads of sections that are already separated, such as those of a sectioned
/// MIMIC-CXR table.
///
/// # Errors
/// Why nothing is left; meant to be counted.
pub fn of_sections(
    impression: Option<&str>,
    findings: Option<&str>,
    last_paragraph: Option<&str>,
    rule: Rule,
) -> Result<String, Rejection> {
    let present = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_string);
    let reading =
        join(present(impression), present(findings)).or(present(last_paragraph)).ok_or(Rejection::NoReading)?;
    sentences(&reading, rule).ok_or(Rejection::TooShort)
}

/// The reference's content of a report, on one line: `None` where it drops the report.
pub fn reference_content(report: &str) -> Option<String> {
    let chosen = choose(report);
    let lines = join(chosen.impression, chosen.findings).and_then(|text| sentences(&text, Rule::Reference))?;
    Some(lines.replace('\n', " "))
}

/// A sentence that is compared with reports (a prompt, a query), in the words that a model reads of
/// them.
pub fn query(text: &str) -> String {
    words(&text.to_lowercase()).map(ascii).filter(|token| !token.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Runs of letters, digits and `_`, and numbers with a point or comma in them, such as `1.5` and
/// `.5`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let belongs = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.char_indices().find(|&(at, c)| belongs(c) || is_point(rest, at)).map(|(at, _)| at)?;
        let text = &rest[start..];
        let end =
            text.char_indices().find(|&(at, c)| !belongs(c) && !is_point(text, at)).map_or(text.len(), |(at, _)| at);
        let (word, after) = text.split_at(end);
        rest = after;
        Some(word)
    })
}

/// Whether the character at `at` is the point or comma of a number: digits on both sides, or after
/// a point that begins a number.
fn is_point(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    if !matches!(bytes[at], b'.' | b',') || !digit(at + 1) {
        return false;
    }
    match at.checked_sub(1) {
        Some(before) if digit(before) => true,
        Some(before) => bytes[at] == b'.' && bytes[before].is_ascii_whitespace(),
        None => bytes[at] == b'.',
    }
}

fn ascii(token: &str) -> String {
    token.chars().filter(char::is_ascii).collect()
}

/// Impression, a space, findings; `None` when there is neither.
fn join(impression: Option<String>, findings: Option<String>) -> Option<String> {
    match (impression, findings) {
        (None, None) => None,
        (impression, findings) => Some(format!("{} {}", impression.unwrap_or_default(), findings.unwrap_or_default())),
    }
}

/// Plain lower-case sentences of a text, one per line, so that training can draw some of them;
/// `None` when fewer than three tokens are left. A tokenizer reads a line break as it reads a
/// space.
fn sentences(text: &str, rule: Rule) -> Option<String> {
    let sentences: Vec<Vec<String>> = match rule {
        Rule::Standard => {
            let text = MARKUP.replace_all(text, " ").to_lowercase();
            cut_at_stops(&text).map(|sentence| words(sentence).map(ascii).collect()).collect()
        }
        Rule::Reference => {
            let text = text.replace(['\n', '\r'], " ");
            let token = |c: char| !(c.is_alphanumeric() || c == '_');
            let tokens = |sentence: &str| {
                let lower = sentence.to_lowercase();
                lower.split(token).filter(|token| !token.is_empty()).map(ascii).collect()
            };
            POINT.split(&text).flat_map(|point| point.split('.')).map(tokens).collect()
        }
    };
    let kept = sentences.into_iter().filter(|tokens| tokens.len() > 1);
    let lines: Vec<Vec<String>> = kept
        .map(|tokens| tokens.into_iter().filter(|token| !token.is_empty()).collect::<Vec<_>>())
        .filter(|tokens| !tokens.is_empty())
        .collect();
    let count: usize = lines.iter().map(Vec::len).sum();
    let lines: Vec<String> = lines.iter().map(|tokens| tokens.join(" ")).collect();
    (count >= FEWEST_TOKENS).then(|| lines.join("\n"))
}

/// Sentences, which end at full stops that are not the point of a number.
fn cut_at_stops(text: &str) -> impl Iterator<Item = &str> {
    let stops = text.match_indices('.').map(|(at, _)| at).filter(|&at| !is_point(text, at)).chain([text.len()]);
    let mut start = 0;
    stops.map(move |stop| {
        let sentence = &text[start..stop];
        start = text.len().min(stop + 1);
        sentence
    })
}

#[cfg(test)]
mod tests {
    use Rule::{Reference, Standard};

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_notes_and_sectioned_reports_are_both_read() {
        for rule in [Standard, Reference] {
            let plain = prepare("Severe ARDS. Person is intubated with an OG in place.", None, rule);
            assert_eq!(plain.as_deref(), Ok("severe ards\nperson is intubated with an og in place"));
            let sectioned = prepare("FINDINGS: 1. Heart is normal. Ok.\n IMPRESSION: No acute process.", None, rule);
            assert_eq!(sectioned.as_deref(), Ok("no acute process\nheart is normal"));
        }
    }

    #[test]
    fn a_query_has_the_words_of_a_report() {
        for text in ["There is no left-sided pneumothorax.", "A 1.5 cm nodule."] {
            assert_eq!(query(text), prepare(text, None, Standard).unwrap());
        }
        assert_eq!(query("Edema?"), "edema");
    }

    #[test]
    fn what_is_empty_or_too_short_is_rejected_with_a_reason() {
        assert_eq!(prepare(" \n ", None, Standard), Err(Rejection::Empty));
        assert_eq!(prepare("Normal chest.", None, Standard), Err(Rejection::TooShort));
        assert_eq!(prepare("... 12. ???", None, Standard), Err(Rejection::TooShort));
    }

    #[test]
    fn the_rule_says_what_a_point_is() {
        let report = "FINDINGS: A 1.5 cm nodule at T12. The tube ends 3,2 cm above; .5 is left. 2. Clear otherwise.";
        let standard = "a 1.5 cm nodule at t12\nthe tube ends 3,2 cm above .5 is left\nclear otherwise";
        assert_eq!(prepare(report, None, Standard).as_deref(), Ok(standard));
        let reference = "5 cm nodule at t\nthe tube ends 3 2 cm above\n5 is left\nclear otherwise";
        assert_eq!(prepare(report, None, Reference).as_deref(), Ok(reference));
        let html = "<p>FINDINGS:</p><p>Nodule&nbsp;&lt;5 mm, <i>stable</i>.</p>";
        assert_eq!(prepare(html, None, Standard).as_deref(), Ok("nodule 5 mm stable"));
    }

    #[test]
    fn mimic_cxr_keeps_its_own_headers_under_either_rule() {
        let report = " FINAL REPORT\r\n INDICATION: Cough.\r\n FINDINGS: 1.5 cm nodule.\r\n Findings: old ones.\r\n";
        assert_eq!(prepare_mimic_cxr(report, None, Standard).as_deref(), Ok("1.5 cm nodule\nfindings old ones"));
        assert_eq!(prepare_mimic_cxr(report, None, Reference).as_deref(), Ok("5 cm nodule\nfindings old ones"));
        // By these rules, a header at the start of a line is not recognised, except for the first.
        let other = "FINDINGS: Clear lungs seen.\nIMPRESSION: Normal.";
        let cleaned = Ok("clear lungs seen\nimpression normal");
        assert_eq!(prepare_mimic_cxr(other, None, Reference).as_deref(), cleaned);
    }

    #[test]
    fn what_was_asked_is_never_taken_for_what_was_seen() {
        let indication = "INDICATION: Rule out pneumonia and effusion.\n";
        assert_eq!(prepare(indication, None, Standard), Err(Rejection::NoReading));
        assert_eq!(prepare(&format!("{indication} IMPRESSION: Normal.\n"), None, Standard), Err(Rejection::TooShort));
        // The table says of this study that it has no reading.
        let study = StudyId("s58235663".into());
        let report = format!("{indication} FINDINGS: The lungs are clear.\n");
        assert_eq!(prepare(&report, Some(&study), Standard), Err(Rejection::NoReading));
        assert_eq!(prepare(&report, None, Standard).as_deref(), Ok("the lungs are clear"));
    }

    proptest! {
        #[test]
        fn any_text_gives_clean_words_or_a_reason(report in "(\\PC|\n| |\\.|[A-Z]{2,9}: ){0,80}") {
            for (rule, marks) in [(Standard, "_ \n.,"), (Reference, "_ \n")] {
                if let Ok(text) = prepare(&report, None, rule) {
                    prop_assert!(text.split_whitespace().count() >= FEWEST_TOKENS);
                    prop_assert!(text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || marks.contains(c)));
                }
            }
        }

        #[test]
        fn numbers_stay_whole_wherever_they_are(whole in 0u32..100, part in 0u32..100, end in "\\.|,|| cm\\.| x 2 cm") {
            let report = format!("FINDINGS: Nodule of {whole}.{part}{end} It is new.");
            let text = prepare(&report, None, Standard).unwrap();
            prop_assert!(text.split_whitespace().any(|word| word == format!("{whole}.{part}")), "{text}");
        }
    }
}
