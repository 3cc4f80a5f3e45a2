//! Where the sentences that a model reads stand in a report as it was written, for whoever shows it.
//!
//! The sections are those of [`super::prepare`]: impression and findings, else the last paragraph, else (without any header) all of it. Text that
//! people paste has its headers at the beginning of a line, archives' behind a blank; both are taken. Sentences end at a full stop
//! before a blank, or at an empty line; [`super::clean`] also parts numbers at their points, which would show as two sentences here.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::sections::{has_headers, sections};

static LINE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[A-Z][A-Z ()/,-]*:\s").expect("a valid expression"));
static END: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[.!?]+(?:\s+|$)|\n\s*\n").expect("a valid expression"));
static POINT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*\(?[0-9]+[.)]\s*$").expect("a valid expression"));

/// The places of sentences in bytes of the report, in order; blanks around them left out. What lies between is not read.
pub fn sentences(report: &str) -> Vec<Range<usize>> {
    let (text, origin) = with_headers(report);
    let mut found = Vec::new();
    for part in read_parts(&text) {
        for sentence in cut(&text, part) {
            found.push(origin[sentence.start]..origin[sentence.end - 1] + 1);
        }
    }
    found.sort_by_key(|own: &Range<usize>| own.start);
    found
}

/// The report with every header behind a line break and a blank, and for each of its bytes where it stood.
fn with_headers(report: &str) -> (String, Vec<usize>) {
    let start = report.len() - report.trim_start().len();
    let (mut text, mut origin) = (String::from("\n "), vec![start; 2]);
    for line in report[start..].split_inclusive('\n') {
        let at = line.as_ptr() as usize - report.as_ptr() as usize;
        let bare = line.trim_start_matches([' ', '\t']);
        let own = if LINE.is_match(bare) && at > start {
            text.push(' ');
            origin.push(at);
            bare
        } else {
            line
        };
        let at = own.as_ptr() as usize - report.as_ptr() as usize;
        text.push_str(own);
        origin.extend(at..at + own.len());
    }
    (text, origin)
}

/// The parts of a text that are read.
fn read_parts(text: &str) -> Vec<Range<usize>> {
    if !has_headers(text) {
        return std::iter::once(0..text.len()).collect();
    }
    // Sections stand in order, each a part of the text.
    let mut at = 0;
    let mut placed: Vec<(String, Range<usize>)> = Vec::new();
    for section in sections(text) {
        if let Some(start) = text[at..].find(&section.text).map(|start| at + start) {
            at = start + section.text.len();
            placed.push((section.name, start..at));
        }
    }
    let last = |name: &str| placed.iter().rev().find(|own| own.0 == name).map(|own| own.1.clone());
    let read: Vec<Range<usize>> = [last("impression"), last("findings")].into_iter().flatten().collect();
    if read.is_empty() { last("last_paragraph").into_iter().collect() } else { read }
}

fn cut(text: &str, part: Range<usize>) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), part.start);
    let ends = END.find_iter(&text[part.clone()]).map(|end| part.start + end.end());
    for end in ends.chain([part.end]) {
        // The number of a point belongs to its sentence.
        if end < part.end && POINT.is_match(text[start..end].trim()) {
            continue;
        }
        let own = &text[start..end];
        let (left, right) = (own.len() - own.trim_start().len(), own.trim_end().len());
        if left < right {
            found.push(start + left..start + right);
        }
        start = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(report: &str) -> Vec<&str> {
        sentences(report).into_iter().map(|own| &report[own]).collect()
    }

    #[test]
    fn what_is_read_is_found_where_it_stands() {
        let archive = " FINAL REPORT\n INDICATION: Cough. Fever.\n FINDINGS: A 2.5 cm nodule.  No effusion.\n IMPRESSION: 1. Nodule. 2. Clear\n otherwise.\n";
        let expected = ["A 2.5 cm nodule.", "No effusion.", "1. Nodule.", "2. Clear\n otherwise."];
        assert_eq!(texts(archive), expected);
        let pasted = "INDICATION: Cough.\nFINDINGS:\nThe heart is large. Größe normal\n\nIMPRESSION: Cardiomegaly";
        assert_eq!(texts(pasted), ["The heart is large.", "Größe normal", "Cardiomegaly"]);
        assert_eq!(texts("  No headers here. At all"), ["No headers here.", "At all"]);
        assert_eq!(texts("INDICATION: Cough.\nCOMPARISON: None."), [""; 0]);
        assert_eq!(texts(" \n "), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_text_has_places_in_order_and_at_characters(text in "(\\PC|\n|\\. | FINDINGS: |IMPRESSION:\n|1\\. ){0,40}") {
            let mut last = 0;
            for own in sentences(&text) {
                prop_assert!(own.start >= last && own.end <= text.len(), "{own:?}");
                prop_assert!(!text[own.clone()].trim().is_empty());
                last = own.end;
            }
        }
    }
}
