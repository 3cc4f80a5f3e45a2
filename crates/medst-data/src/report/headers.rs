//! Impression and findings in reports as any hospital writes them.
//!
//! [`super::sections`] covers MIMIC-CXR's reports, whose headers are lines in capitals after one
//! blank. Elsewhere headers begin the line, are in mixed case (`Findings:`), are alone on their
//! line, follow each other on one line, carry Markdown or HTML, numbers or a typing error, and
//! lines end with CR LF. What matters is the difference between what was seen and what was asked:
//! the words of an indication must never be taken for a finding.
//!
//! A header is
//! * at the beginning of a line: a known name before a colon, in any case and with a small typing
//!   error; any words in capitals before a colon; a known name alone on its line; a reading's name
//!   in capitals before a dash or other words;
//! * within a line: a known name before a colon, in capitals, or capitalised at the beginning of a
//!   sentence.
//!
//! Names of organs (`Lungs: clear.`) belong to the findings, and so does an unknown name within a
//! reading.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::sections;
use crate::cell::meaning;

/// The role of a section of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SectionKind {
    Impression,
    Findings,
    /// Text after the name of the examination (`PORTABLE CHEST:`): it counts as findings if no
    /// section is named so.
    Examination,
    /// A part of the findings, whose name belongs to the text.
    Organ,
    /// Sections about indication, comparison, technique or communication.
    Other,
}

/// The readings of a report, as ranges of bytes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    pub impression: Vec<Range<usize>>,
    pub findings: Vec<Range<usize>>,
    /// If the report has neither: the text after the first paragraph of the last section.
    pub last_paragraph: Option<Range<usize>>,
    pub has_headers: bool,
}

struct Header {
    /// From the start of the name to just after the colon.
    range: Range<usize>,
    kind: SectionKind,
}

/// Ends of lines: real ones, the two characters `\n` that some exports write, and HTML's.
static BREAK: LazyLock<Regex> =
    LazyLock::new(|| expression(r"\r\n?|\n|\\r|\\n|<\s*/?(?i:br|p|div|li|tr|td|h[1-6])\b[^<>]{0,80}>"));
/// The characters that may precede a header: blanks, Markdown, HTML, a number.
static BEFORE: LazyLock<Regex> = LazyLock::new(|| expression(r"^(?:[\s#*_>•·|–—-]|<[^<>]{1,80}>|\(?[0-9]{1,2}[.)])*"));
static AFTER: LazyLock<Regex> = LazyLock::new(|| expression(r"(?:[\s#*_|-]|<[^<>]{1,80}>)*$"));
static ASIDE: LazyLock<Regex> = LazyLock::new(|| expression(r"\([^)]*\)?|[0-9]+|<[^<>]{1,80}>|[*_#]"));
/// A reading's name without a colon, before a dash or words that are not in capitals.
static BARE: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^(FINDINGS?|IMPRESSIONS?|CONCLUSIONS?|INDICATIONS?)(?:\s*[–—-]\s*|\s+(?:[A-Z][a-z]|[a-z]|[0-9]))")
});
static SIGNED: LazyLock<Regex> = LazyLock::new(|| {
    expression(r"^(?i:electronically\s+signed|signed\s+by|dictated\s+by|transcribed\s+by|reported\s+by|read\s+by)\b")
});
static BLANK_LINE: LazyLock<Regex> = LazyLock::new(|| expression(r"(?:\r\n?|\n)[ \t]*(?:\r\n?|\n)\s*"));

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

const IMPRESSION: &str = "impression, impressions, conclusion, conclusions, opinion, summary, assessment, final impression, overall \
    impression, radiological impression, radiographic impression, findings and impression, impression and \
    findings, findings and conclusion";
const FINDINGS: &str = "finding, findings, observation, observations, description, result, results, interpretation, report, \
    radiographic findings, radiological findings, imaging findings, image findings, chest findings, report text, \
    body of report";
const OTHER: &str = "indication, indications, history, clinical history, clinical information, clinical indication, clinical \
    indications, clinical data, clinical details, clinical question, clinical statement, clinical background, \
    clinical context, clinical notes, clinical findings, clinical diagnosis, clinical, medical history, past \
    medical history, relevant history, patient history, reason, reason for exam, reason for examination, reason \
    for study, reason for this exam, reason for this examination, reason for request, reason for test, reason for \
    visit, question, request, symptoms, complaint, chief complaint, presenting complaint, technique, procedure, \
    protocol, comparison, comparisons, comparison studies, prior studies, prior study, prior, priors, previous, \
    exam, examination, study, exam type, exam date, date, date of exam, date of study, modality, views, \
    projection, recommendation, recommendations, advice, follow up, followup, plan, comment, comments, note, \
    notification, communication, addendum, wet read, preliminary read, preliminary report, final report, contrast, \
    medication, medications, allergies, dose, radiation dose, quality, technical quality, limitations, diagnosis";
/// Known within a line too, where less is between a header and a sentence.
const WITHIN: &str = "impression, impressions, conclusion, conclusions, opinion, findings, finding, interpretation, findings and \
    impression, indication, indications, history, clinical history, clinical information, clinical indication, \
    clinical data, clinical details, clinical question, clinical, medical history, past medical history, patient \
    history, reason for exam, reason for examination, reason for study, reason for this exam, reason for this \
    examination, reason for request, reason for test, technique, procedure, comparison, comparisons, exam, \
    examination, recommendation, recommendations, addendum, wet read";
const ORGANS: &str = "lung, lungs, lungs and pleura, lungs and airways, lungs/pleura, airway, airways, trachea, pleura, pleural \
    space, pleural spaces, heart, heart size, cardiac, cardiac silhouette, cardiomediastinum, cardiomediastinal \
    silhouette, heart and mediastinum, heart/mediastinum, mediastinum, mediastinum and hila, hila, hilum, aorta, \
    vasculature, pulmonary vasculature, vessels, bones, bones and soft tissues, bones/soft tissues, osseous \
    structures, skeleton, musculoskeletal, soft tissues, chest wall, diaphragm, abdomen, upper abdomen, tubes, \
    lines, lines and tubes, tubes and lines, lines/tubes, tubes/lines, devices, support devices, hardware, right \
    lung, left lung";
/// How words begin in names of sections that are not read: about what was asked or done.
const ASKED: &str = "clinical, indication, reason, history, question, request, technique, comparison, recommend, \
    approved, verified, reviewed, phone, date, time, copy, fax";
/// Likewise for words about people, in any case.
const PEOPLE: &str = "signed, signature, dictat, transcri, radiologist, physician, attending, resident, doctor, \
    accession, mrn, patient, birth, dob";

/// Kinds by name; and whether a name is known within a line too.
static KNOWN: LazyLock<HashMap<&'static str, SectionKind>> = LazyLock::new(|| {
    let lists = [
        (OTHER, SectionKind::Other),
        (FINDINGS, SectionKind::Findings),
        (IMPRESSION, SectionKind::Impression),
        (ORGANS, SectionKind::Organ),
    ];
    lists.into_iter().flat_map(|(names, kind)| names.split(", ").map(move |name| (name, kind))).collect()
});
static KNOWN_WITHIN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| WITHIN.split(", ").collect());

/// Finds impression and findings.
pub fn readings(report: &str) -> Readings {
    let headers = headers(report);
    let ends = headers.iter().skip(1).map(|header| header.range.start).chain([report.len()]);
    let mut found = Readings { has_headers: !headers.is_empty(), ..Readings::default() };
    let mut examination = Vec::new();
    let mut current = SectionKind::Other;
    for (header, end) in headers.iter().zip(ends) {
        let within = matches!(current, SectionKind::Impression | SectionKind::Findings);
        let (kind, start) = match header.kind {
            SectionKind::Organ if within => (current, header.range.start),
            SectionKind::Organ => (SectionKind::Findings, header.range.start),
            kind => (kind, header.range.end),
        };
        current = kind;
        let part = start..end;
        if says_nothing(&report[part.clone()]) {
            continue;
        }
        match kind {
            SectionKind::Impression => found.impression.push(part),
            SectionKind::Findings => found.findings.push(part),
            SectionKind::Examination => examination.push(part),
            SectionKind::Organ | SectionKind::Other => {}
        }
    }
    if found.findings.is_empty() {
        found.findings = examination;
    }
    if found.impression.is_empty() && found.findings.is_empty() {
        found.last_paragraph = headers.last().and_then(|last| paragraph(report, last.range.end));
    }
    found
}

/// Empty, or what programs write for nothing.
fn says_nothing(text: &str) -> bool {
    let words = text.trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
    meaning(words).is_none()
}

/// The text after the first paragraph of a section. A blank line directly after the header does not
/// end a paragraph.
fn paragraph(report: &str, start: usize) -> Option<Range<usize>> {
    let from = start + (report[start..].len() - report[start..].trim_start().len());
    let blank = BLANK_LINE.find_at(report, from)?;
    (!says_nothing(&report[blank.end()..])).then_some(blank.end()..report.len())
}

fn headers(report: &str) -> Vec<Header> {
    let mut found = Vec::new();
    let mut start = 0;
    let ends = BREAK.find_iter(report).map(|end| end.range()).chain(std::iter::once(report.len()..report.len()));
    for end in ends {
        of_line(report, start..end.start, &mut found);
        start = end.end;
    }
    found
}

/// The headers of one line.
fn of_line(report: &str, line: Range<usize>, found: &mut Vec<Header>) {
    let begin = line.start + BEFORE.find(&report[line.clone()]).map_or(0, |before| before.end());
    let text = &report[begin..line.end];
    if text.is_empty() {
        return;
    }
    let (mut from, count) = (begin, found.len());
    for (at, colon) in text.char_indices().filter(|(_, c)| matches!(c, ':' | '：')) {
        let (at, end) = (begin + at, begin + at + colon.len_utf8());
        let Some((start, kind)) = name_before(&report[from..at], from == begin) else { continue };
        // Marks and numbers before the first name belong to its header.
        let start = if from == begin && start == 0 { line.start } else { from + start };
        found.push(Header { range: start..end, kind });
        from = end;
    }
    if found.len() > count {
        return;
    }
    if let Some(bare) = BARE.captures(text).and_then(|bare| bare.get(1)) {
        let kind = exactly(&plain(bare.as_str()), true).unwrap_or(SectionKind::Other);
        // A dash after the name is dropped with other marks between words.
        found.push(Header { range: line.start..begin + bare.end(), kind });
    } else if let Some(kind) = alone(text) {
        found.push(Header { range: line.start..line.end, kind });
    }
}

/// The kind of a line without a colon that is nothing but a header, or begins a signature.
fn alone(line: &str) -> Option<SectionKind> {
    if SIGNED.is_match(line) {
        return Some(SectionKind::Other);
    }
    let name = &line[..AFTER.find(line).map_or(line.len(), |after| after.start())];
    let is_name = name.len() <= 40 && name.chars().next().is_some_and(char::is_uppercase);
    let kind = is_name.then(|| KNOWN.get(plain(name).as_str()).copied()).flatten()?;
    // `Lungs` or `Prior` alone on a line may be the rest of a sentence that was wrapped.
    KNOWN_WITHIN.contains(plain(name).as_str()).then_some(kind)
}

/// The header that a text before a colon ends with: where it begins, and its kind.
///
/// * `begins`: whether the text begins a line.
fn name_before(text: &str, begins: bool) -> Option<(usize, SectionKind)> {
    let text = &text[..AFTER.find(text).map_or(text.len(), |after| after.start())];
    let whole = begins && text.len() <= 80;
    if whole && let Some(kind) = exactly(&plain(text), true) {
        return Some((0, kind));
    }
    // Only the last words, in capitals, or capitalised after the end of a sentence.
    let starts: Vec<usize> = text
        .char_indices()
        .filter(|&(at, c)| c.is_alphabetic() && !text[..at].chars().next_back().is_some_and(char::is_alphanumeric))
        .map(|(at, _)| at)
        .collect();
    for &start in starts.iter().rev().take(5).rev() {
        let name = &text[start..];
        let upper = !name.chars().any(char::is_lowercase);
        let capitalised = name.chars().next().is_some_and(char::is_uppercase);
        let before = text[..start].trim_end();
        let opens = before.is_empty() || before.ends_with(['.', ';', ':', '!', '?', ')', '>', '*', '|', '：']);
        if (upper || (capitalised && opens)) && KNOWN_WITHIN.contains(plain(name).as_str()) {
            return Some((start, exactly(&plain(name), false)?));
        }
    }
    if !whole || !text.chars().next().is_some_and(char::is_uppercase) {
        return None;
    }
    let name = plain(text);
    let kind = if text.chars().any(char::is_lowercase) {
        (name.split(' ').count() <= 3 && begins_with(&name, PEOPLE)).then_some(SectionKind::Other)
    } else {
        in_capitals(&name)
    };
    kind.map(|kind| (0, kind))
}

/// Whether a word of a name begins with an entry of a list.
fn begins_with(name: &str, list: &str) -> bool {
    name.split(' ').any(|word| list.split(", ").any(|part| word.starts_with(part)))
}

/// A name as lists spell it: lower case, without remarks in brackets, numbers and marks.
fn plain(name: &str) -> String {
    let name = ASIDE.replace_all(name, " ").to_lowercase().replace('&', "and").replace('-', " ");
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").trim_matches(|c: char| !c.is_alphanumeric()).to_string()
}

/// The kind of a known name; with `begins`, also of a name with a typing error.
fn exactly(name: &str, begins: bool) -> Option<SectionKind> {
    if let Some(kind) = KNOWN.get(name) {
        return Some(*kind);
    }
    if let Some(known) = sections::known(name) {
        return Some(match known {
            "impression" => SectionKind::Impression,
            "findings" => SectionKind::Findings,
            _ => SectionKind::Other,
        });
    }
    let near = ["findings", "impression", "conclusion", "indication", "technique", "comparison", "examination"];
    let typed = near.into_iter().find(|known| {
        let allowed = if known.len() > 9 { 2 } else { 1 };
        begins && name.len() >= 6 && name.as_bytes()[0] == known.as_bytes()[0] && distance(name, known) <= allowed
    });
    typed.and_then(|known| KNOWN.get(known).copied())
}

/// The kind of an unknown name in capitals; `None` where it may belong to the text.
fn in_capitals(name: &str) -> Option<SectionKind> {
    if begins_with(name, ASKED) || begins_with(name, PEOPLE) {
        Some(SectionKind::Other)
    } else if name.contains("impression") || name.contains("conclusion") {
        Some(SectionKind::Impression)
    } else if name.contains("finding") {
        Some(SectionKind::Findings)
    } else if sections::describes_study(name) {
        Some(SectionKind::Examination)
    } else {
        None
    }
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Impression and findings, blanks made one.
    fn read(report: &str) -> (String, String) {
        let found = readings(report);
        let text = |parts: &[Range<usize>]| {
            let parts: Vec<&str> = parts.iter().map(|part| &report[part.clone()]).collect();
            parts.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
        };
        (text(&found.impression), text(&found.findings))
    }

    #[test]
    fn hospitals_write_headers_in_many_ways() {
        for report in [
            "FINAL REPORT\nINDICATION: Cough? Pneumonia?\n\nFINDINGS:\n\nLungs clear.\n\nIMPRESSION:\n\nNo process.\n",
            "Indication: Cough? Pneumonia?\r\nFindings: Lungs clear.\r\nImpression: No process.\r\n",
            "FINAL REPORT INDICATION: Cough? Pneumonia? FINDINGS: Lungs clear. IMPRESSION: No process.",
            "Indication: Cough? Pneumonia? Findings: Lungs clear. Impression: No process.",
            "Clinical history: Cough? Pneumonia?\nFindings\nLungs clear.\nConclusion\nNo process.",
            "**Reason for exam:** Cough?\n\n**Findings:** Lungs clear.\n\n**Impression:** No process.",
            "## Indication\nPneumonia?\n## Findings\nLungs clear.\n## Impression\nNo process.",
            "<p><b>HISTORY:</b> Pneumonia?</p><p><b>FINDINGS:</b> Lungs clear.</p><p><b>IMPRESSION:</b> No process.</p>",
            "1. INDICATION: Pneumonia?\n2. FINDINGS: Lungs clear.\n3. IMPRESSION: No process.",
            "INDICATON: Pneumonia?\nFINDNGS: Lungs clear.\nIMPRESSOIN: No process.",
            "FINDINGS (2 VIEWS): Lungs clear.\nIMPRESSION - No process.\nSigned by: Dr. Who",
            "HISTORY：Pneumonia?\nFINDINGS：Lungs clear.\nIMPRESSION：No process.",
            "INDICATION: Pneumonia?\\nFINDINGS: Lungs clear.\\nIMPRESSION: No process.",
            "Clinical information: Findings of pneumonia?\nFINDINGS Lungs clear.\nIMPRESSION No process.",
            "EXAM: XR CHEST 2 VIEWS\nREASON FOR CHEST RADIOGRAPH: Pneumonia?\nCHEST, TWO VIEWS: Lungs clear.\nOPINION: No process.",
        ] {
            let (impression, findings) = read(report);
            let bare = |text: &str| {
                text.replace("</p><p>", "")
                    .replace("</p>", "")
                    .replace("</b>", "")
                    .replace("<b>", "")
                    .replace("<p>", "")
                    .replace("\\n", "")
            };
            let plain = |text: &str| bare(text).trim_matches(|c: char| !c.is_alphanumeric() && c != '.').to_string();
            assert_eq!(
                (plain(&impression).as_str(), plain(&findings).as_str()),
                ("No process.", "Lungs clear."),
                "{report}"
            );
        }
    }

    #[test]
    fn what_is_within_a_reading_stays_there() {
        let (impression, findings) =
            read("FINDINGS:\nLUNGS: Clear.\nHeart: Normal.\nRATIO: 0.5\nIMPRESSION: Normal: yes.");
        assert_eq!(
            (impression.as_str(), findings.as_str()),
            ("Normal: yes.", "LUNGS: Clear. Heart: Normal. RATIO: 0.5")
        );
        let (_, findings) = read("TECHNIQUE: PA.\nLungs: Clear.\nBones: Intact.\nAttending: Dr. Who");
        assert_eq!(findings, "Lungs: Clear. Bones: Intact.");
        let (_, findings) =
            read("FINDINGS: Right. These findings: old. At 9:12 PM the history: unknown.\nFINDINGS: Left.");
        assert_eq!(findings, "Right. These findings: old. At 9:12 PM the history: unknown. Left.");
        let (_, findings) = read("INDICATION: Cough.\nSIGNIFICANT FINDINGS: At that\nSame time: none.");
        assert_eq!(findings, "At that Same time: none.");
        let (impression, _) = read("IMPRESSION: nan\nFINDINGS: None.\nCONCLUSION: No process.");
        assert_eq!(impression, "No process.");
    }

    #[test]
    fn without_a_reading_the_paragraph_behind_the_question_is_taken() {
        let paragraph = |report: &str| readings(report).last_paragraph.map(|range| report[range].trim().to_string());
        assert_eq!(
            paragraph("INDICATION: Pneumonia?\r\n \r\n The lungs are clear.\r\n").as_deref(),
            Some("The lungs are clear.")
        );
        assert_eq!(
            paragraph("Indication:\n\nPneumonia?\n\nThe lungs are clear.").as_deref(),
            Some("The lungs are clear.")
        );
        assert_eq!(paragraph("Indication:\n\nPneumonia?\n"), None);
        assert!(!readings("The lungs are clear.\n\nThe heart is large.").has_headers);
    }

    proptest! {
        #[test]
        fn ranges_are_of_characters_and_in_order(report in "(\\PC|\r?\n|<br>|\\. |FINDINGS: |impression：|Lungs: |\\*\\*|INDICATION\n){0,40}") {
            let found = readings(&report);
            for parts in [&found.impression, &found.findings] {
                let mut last = 0;
                for part in parts {
                    prop_assert!(part.start >= last && report.get(part.clone()).is_some_and(|text| !text.trim().is_empty()));
                    last = part.end;
                }
            }
            prop_assert!(found.last_paragraph.is_none_or(|part| report.get(part).is_some()));
        }

        #[test]
        fn what_was_asked_is_never_read(asked in "[a-z]{3,8}( [a-z]{3,8}){0,5}", name in "INDICATION|Clinical history|Reason for exam", lines in "\r?\n|\r?\n\r?\n") {
            let report = format!("{name}: zz{asked}{lines}FINDINGS: seen it.{lines}Impression: clear.");
            let (impression, findings) = read(&report);
            prop_assert!(!impression.contains("zz") && !findings.contains("zz"), "{report}");
        }
    }
}
