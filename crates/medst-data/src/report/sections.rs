//! Sections of a MIMIC-CXR report.
//!
//! Rules and tables are those of the public MIT-LCP `mimic-cxr` project (MIT licence, see
//! THIRD_PARTY.md): a header is a line that begins with a space and capital letters and ends with a
//! colon; header names are normalised by a table of spellings; 54 studies have individual
//! exceptions.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

use crate::study::StudyId;

/// The table of header names and per-study exceptions.
#[derive(Deserialize)]
struct Tables {
    names: HashMap<String, String>,
    contains: Vec<String>,
    describes_study: Vec<String>,
    study_section: HashMap<String, String>,
    study_span: HashMap<String, [usize; 2]>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../assets/section_names.json")).expect("the embedded table is valid JSON")
});

static HEADER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\n ([A-Z ()/,-]+):\s").expect("a valid expression"));

/// A paragraph break as MIMIC-CXR writes it.
const BLANK_LINE: &str = "\n \n";

/// A named part of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Normalised, lower case: `impression`, `findings`, `comparison`, `indication`, …
    pub name: String,
    /// The text after the header, unchanged.
    pub text: String,
}

/// The sections that matter, trimmed; the last of each name wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub impression: Option<String>,
    pub findings: Option<String>,
    /// If there is neither impression nor findings: the text after the first blank line of the last
    /// section.
    pub last_paragraph: Option<String>,
    pub comparison: Option<String>,
}

/// Cuts a report into sections, empty impressions and findings left out.
///
/// The text before the first header becomes `preamble`; a report without headers becomes one
/// section, `full report`.
pub fn sections(report: &str) -> Vec<Section> {
    let mut found = Vec::new();
    let mut header = HEADER.captures(report);
    match &header {
        None => found.push(Section { name: "full report".into(), text: report.into() }),
        Some(first) => {
            let end = first.get(1).map_or(0, |name| name.start());
            found.push(Section { name: "preamble".into(), text: report[..end].into() });
        }
    }
    while let Some(current) = header {
        let (matched, name) = (current.get(0).map_or(0..0, |m| m.range()), current.get(1).map_or("", |m| m.as_str()));
        // The search goes on at the next line, so that two headers never share one.
        let line_end = report[matched.end..].find('\n').map_or(report.len(), |at| matched.end + at);
        header = HEADER.captures_at(report, line_end);
        let end = header.as_ref().and_then(|next| next.get(0)).map_or(report.len(), |next| next.start());
        found.push(Section { name: normalise(name), text: report[matched.end..end].into() });
    }
    found.retain(|section| !is_reading(&section.name) || !section.text.trim().is_empty());
    if !found.iter().any(|section| is_reading(&section.name))
        && let Some(last) = found.last_mut()
        && let Some((head, tail)) = last.text.split_once(BLANK_LINE)
    {
        let (head, tail) = (head.to_string(), tail.to_string());
        last.text = head;
        found.push(Section { name: "last_paragraph".into(), text: tail });
    }
    found
}

/// The sections of a report that matter.
pub fn choose(report: &str) -> Chosen {
    let all = sections(report);
    let last = |name: &str| {
        all.iter().rev().find(|section| section.name == name).map(|section| section.text.trim().to_string())
    };
    Chosen {
        impression: last("impression"),
        findings: last("findings"),
        last_paragraph: last("last_paragraph"),
        comparison: last("comparison"),
    }
}

/// For a study that is listed as an exception: the text to use instead of impression and findings.
pub fn exception(report: &str, study: &StudyId) -> Option<String> {
    // The tables write ids as file names do, `s50413267`; MIMIC-CXR's own tables without the
    // letter.
    let study = if study.0.starts_with('s') { study.0.clone() } else { format!("s{study}") };
    let study = study.as_str();
    if let Some(&[start, end]) = TABLES.study_span.get(study) {
        let text: String = report.chars().skip(start).take(end.saturating_sub(start)).collect();
        return Some(text.trim().to_string());
    }
    let name = TABLES.study_section.get(study)?;
    let last = sections(report).into_iter().rev().find(|section| section.name == *name);
    last.map(|section| section.text.trim().to_string())
}

/// Whether a report is divided by headers at all.
pub fn has_headers(report: &str) -> bool {
    HEADER.is_match(report)
}

fn is_reading(name: &str) -> bool {
    matches!(name, "impression" | "findings")
}

/// The name that the table gives a header, if it has one of this spelling in lower case.
pub(super) fn known(name: &str) -> Option<&'static str> {
    TABLES.names.get(name).map(String::as_str)
}

/// Whether a header names the examination, below which its findings are.
pub(super) fn describes_study(name: &str) -> bool {
    TABLES.describes_study.iter().any(|part| name.contains(part.as_str()))
}

/// A header's name as the table spells it.
fn normalise(header: &str) -> String {
    let name = header.trim().to_lowercase();
    if let Some(known) = TABLES.names.get(&name) {
        return known.clone();
    }
    if let Some(part) = TABLES.contains.iter().find(|part| name.contains(part.as_str())) {
        return part.clone();
    }
    if describes_study(&name) {
        return "findings".into();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(report: &str) -> Vec<String> {
        sections(report).into_iter().map(|section| section.name).collect()
    }

    #[test]
    fn misspelt_headers_are_recognised() {
        assert_eq!(
            names("x\n IMPRESSON: Clear.\n PA AND LATERAL CHEST: Normal.\n"),
            ["preamble", "impression", "findings"]
        );
    }

    #[test]
    fn a_header_on_the_line_of_another_is_text() {
        let found = sections("x\n FINDINGS: IMPRESSION: both.\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].text, "IMPRESSION: both.\n");
    }

    #[test]
    fn empty_readings_do_not_hide_earlier_ones() {
        let chosen = choose("x\n IMPRESSION: Clear.\n IMPRESSION:  \n");
        assert_eq!(chosen.impression.as_deref(), Some("Clear."));
    }

    #[test]
    fn studies_with_an_exception_give_the_section_it_names() {
        let study = StudyId("s50913680".into());
        let report = "x\n RECOMMENDATIONS: No pneumonia is seen.\n";
        assert_eq!(exception(report, &study).as_deref(), Some("No pneumonia is seen."));
        assert_eq!(exception(report, &StudyId("50913680".into())).as_deref(), Some("No pneumonia is seen."));
    }
}
