//! Sentences that affirm and deny a finding, and that state its course.
//!
//! Those of a finding's presence are the reference's for RSNA pneumonia (its zero-shot script),
//! with the finding's name in the place of pneumonia.

/// Findings that labels may name: CheXpert's fourteen, except support devices and no finding, and
/// the findings that supported sources call by other names.
pub const FINDINGS: [&str; 15] = [
    "atelectasis",
    "cardiomegaly",
    "consolidation",
    "edema",
    "enlarged cardiomediastinum",
    "fracture",
    "lung lesion",
    "lung opacity",
    "pleural effusion",
    "pleural other",
    "pneumonia",
    "pneumothorax",
    "covid 19",
    "emphysema",
    "fibrosis",
];

/// The findings of MS-CXR-T, whose course is followed where none are named.
pub const MS_CXR_T: [&str; 5] = ["consolidation", "edema", "pleural effusion", "pneumonia", "pneumothorax"];

/// The finding of a label column, written as words; `None` for columns about something else.
pub fn finding(column: &str) -> Option<String> {
    let words = super::words(column).replace('-', " ");
    // RSNA's challenge calls its one finding so.
    if words == "target" {
        return Some("pneumonia".into());
    }
    FINDINGS.contains(&words.as_str()).then_some(words)
}

/// Sentences that state that a finding is present.
pub fn positive(finding: &str) -> Vec<String> {
    vec![
        format!("Findings consistent with {finding}"),
        format!("Findings suggesting {finding}"),
        format!("This opacity can represent {finding}"),
        format!("Findings are most compatible with {finding}"),
    ]
}

/// Sentences that deny a finding.
pub fn negative(finding: &str) -> Vec<String> {
    vec![
        format!("There is no {finding}"),
        format!("No evidence of {finding}"),
        format!("No evidence of acute {finding}"),
        format!("No signs of {finding}"),
    ]
}

/// Sentences that state an improvement.
pub fn improving(finding: &str) -> Vec<String> {
    vec![
        format!("{finding} has improved compared to the prior study"),
        format!("Interval decrease in {finding}"),
        format!("The {finding} has decreased"),
        format!("Resolving {finding}"),
    ]
}

/// Sentences that state a worsening.
pub fn worsening(finding: &str) -> Vec<String> {
    vec![
        format!("{finding} has worsened compared to the prior study"),
        format!("Interval increase in {finding}"),
        format!("The {finding} has increased"),
        format!("Progressing {finding}"),
    ]
}

/// Sentences about a finding's course, by class number, in the form that BioViL-T, TempA-VLP and
/// TILA compare without training. The papers do not agree on the phrases; these are ours.
pub fn progression(finding: &str) -> [Vec<String>; 3] {
    const PHRASES: [&[&str]; 3] = [
        &["improving", "improved", "better", "decreasing", "decreased", "smaller", "resolving", "resolved"],
        &["stable", "unchanged", "constant", "the same", "without change"],
        &["worsening", "worse", "increasing", "increased", "larger", "progressing", "new"],
    ];
    PHRASES.map(|of| of.iter().map(|phrase| format!("The progression of {finding} is {phrase}.")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_name_findings_in_any_spelling() {
        assert_eq!(finding("Pleural Effusion").as_deref(), Some("pleural effusion"));
        assert_eq!(finding("pleural_effusion").as_deref(), Some("pleural effusion"));
        assert_eq!(finding("Target").as_deref(), Some("pneumonia"));
        assert_eq!((finding("age"), finding("boxes"), finding("No Finding")), (None, None, None));
        assert!(MS_CXR_T.into_iter().all(|name| finding(name).as_deref() == Some(name)));
    }

    #[test]
    fn a_course_has_phrases_of_its_own() {
        let [improving, stable, worsening] = progression("edema");
        assert_eq!(improving[0], "The progression of edema is improving.");
        assert!(stable.contains(&"The progression of edema is unchanged.".into()));
        assert!(worsening.iter().all(|text| !improving.contains(text) && !stable.contains(text)));
    }

    #[test]
    fn the_prompts_of_pneumonia_are_the_references() {
        assert_eq!(positive("pneumonia")[2], "This opacity can represent pneumonia");
        assert_eq!(negative("pneumonia")[2], "No evidence of acute pneumonia");
        assert_eq!((positive("pneumonia").len(), negative("pneumonia").len()), (4, 4));
    }
}
