//! Where the sentences that a model reads are in the original report, to show them there.
//!
//! The sections are those of [`super::prepare`]: impression and findings, else the last paragraph,
//! else (without any header) all of it. Sentences end at a full stop before a blank, or at an empty
//! line.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::headers::readings;

static END: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[.!?]+(?:\s+|$)|\n\s*\n").expect("a valid expression"));
static POINT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*\(?[0-9]+[.)]\s*$").expect("a valid expression"));

/// The places of sentences in bytes of the report, in order, without the blanks around them. What
/// is between is not read.
pub fn sentences(report: &str) -> Vec<Range<usize>> {
    let found = readings(report);
    let read = match found.has_headers {
        false => std::iter::once(0..report.len()).collect(),
        true => {
            let readings: Vec<Range<usize>> = found.impression.into_iter().chain(found.findings).collect();
            if readings.is_empty() { found.last_paragraph.into_iter().collect() } else { readings }
        }
    };
    let mut sentences: Vec<Range<usize>> = read.into_iter().flat_map(|part| cut(report, part)).collect();
    sentences.sort_by_key(|sentence| sentence.start);
    sentences
}

fn cut(text: &str, part: Range<usize>) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), part.start);
    let ends = END.find_iter(&text[part.clone()]).map(|end| part.start + end.end());
    for end in ends.chain([part.end]) {
        // The number of a point belongs to its sentence.
        if end < part.end && POINT.is_match(text[start..end].trim()) {
            continue;
        }
        let sentence = &text[start..end];
        let (left, right) = (sentence.len() - sentence.trim_start().len(), sentence.trim_end().len());
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
        sentences(report).into_iter().map(|span| &report[span]).collect()
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
            for span in sentences(&text) {
                prop_assert!(span.start >= last && span.end <= text.len(), "{span:?}");
                prop_assert!(!text[span.clone()].trim().is_empty());
                last = span.end;
            }
        }
    }
}
